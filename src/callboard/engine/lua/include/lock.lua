-- Locks: who holds what, who waits for it, which names overlap; granting and handing over.
-- include record

-- A holding is a field of the resource's hash, named by its owner:
--
--   mode|mark|count|first|fence|deadline|since|bell|op|agent
--
-- mode: x exclusive, s shared, p a permit of a semaphore. mark: h handed over and not taken
-- up yet, u so was its upgrade. first to fence: those that this owner was given for it
-- without a break. The field `~` is `limit|1`: permits there are, and 1 where somebody waits.
-- A wait for a set of resources is one line of its owner:
--
--   state|mode|limit|priority|since|score|deadline|lease|bell|op|agent|fence|names
--
-- since and score are in us. state: w waiting, r so long that it has reserved its set, g granted and not taken up yet.
local locks = {}
local LOCK_RELEASED_MS = 60000 -- so long a release is answered again as it was
local LOCK_TAKE_UP_MS = 2000 -- then a hand-over passes on
local LOCK_WAIT_LEASE_MS = 5000 -- a waiter not heard of for so long is dead
local LOCK_RESERVES_US = 2000000 -- then nobody behind it overtakes it any more
local LOCK_PRIORITY_US = 1000000 -- a point of priority is worth a second of waiting
local LOCKS_HELD_MOST, LOCK_HOLDERS_MOST, LOCK_OVERLAPS_MOST = 1000, 1000, 1000
local LOCK_PAGE, LOCK_PAGES, LOCK_QUEUE_SEEN = 16, 16, 100

do
  local HOLDING = '^(%a)|(%a?)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|([^|]*)|([^|]*)|([^|]*)$'
  local WAIT = '^(%a)|(%a)|(%d*)|(%-?%d+)|(%d+)|(%-?%d+)|(%d+)|(%d+)|([^|]*)|([^|]*)|([^|]*)|(%d*)|(.*)$'
  local NONE = {}
  local MODES = { x = 'exclusive', s = 'shared', p = 'semaphore' }

  locks.modes = MODES

  -- What this call knows of locks: read once, changed here, written by `flush`.
  function locks.of(t)
    local s = t.locks
    if not s then
      s = { keys = lock_keys(t.prefix), resources = {}, waits = {}, overlaps = {}, freed = {}, loaded = {}, takers = {}, ahead = {},
        added = {} }
      s.has_globs = call('ZCARD', s.keys.globs) > 0
      t.locks = s
    end
    return s
  end

  -- Fails with WRONGTYPE, before anything was written, where a key that locks share is
  -- somebody else's. The first is the key of no name, so always missing: the intersection looks
  -- at the type of each and at no member.
  function locks.touch(t, owner)
    local keys = locks.of(t).keys
    call('ZINTERCARD', 7, keys.lock, keys.all, keys.due, keys.waits_due, keys.forced, keys.pending,
      keys.unchecked)
    if owner then touch('HLEN', keys.owner .. owner) end
    touch('XLEN', events_key(t.prefix))
  end

  function locks.claim_owner(b, id, fence) return 'claim:' .. b .. ':' .. id .. ':' .. fence end

  -- Board, task and fence of an owner that is a claim; nil of a token.
  function locks.claim_of(owner) return match(owner, '^claim:([^:]+):([^:]+):(%d+)$') end

  -- Overlapping names. A name is cut behind each `/` and `:`; `**` stands for any number of
  -- such parts, `*` and `?` for characters within one.

  local function is_glob(name) return string.find(name, '[*?]') ~= nil end

  local function base_of(name)
    local wild = string.find(name, '[*?]')
    return wild and match(string.sub(name, 1, wild - 1), '^(.*[/:])') or (wild and '' or name)
  end

  local function parts_of(name)
    local parts = {}
    for part in gmatch(name, '[^/:]*[/:]?') do
      if part ~= '' then parts[#parts + 1] = part end
    end
    return parts
  end

  -- Whether some text is matched by both of two parts.
  local function parts_meet(x, i, y, j)
    local a, b = string.sub(x, i, i), string.sub(y, j, j)
    if a == '' and b == '' then return true end
    if a == '*' then return parts_meet(x, i + 1, y, j) or (b ~= '' and parts_meet(x, i, y, j + 1)) end
    if b == '*' then return parts_meet(x, i, y, j + 1) or (a ~= '' and parts_meet(x, i + 1, y, j)) end
    if a == '' or b == '' then return false end
    return (a == b or a == '?' or b == '?') and parts_meet(x, i + 1, y, j + 1)
  end

  local function part_meets(x, y)
    if x == y then return true end
    if not (is_glob(x) or is_glob(y)) then return false end
    local _, _, x_body, x_end = string.find(x, '^([^/:]*)([/:]?)$')
    local _, _, y_body, y_end = string.find(y, '^([^/:]*)([/:]?)$')
    return x_end == y_end and parts_meet(x_body, 1, y_body, 1)
  end

  local function is_any(part) return part == '**' or part == '**/' or part == '**:' end

  local function names_meet(x, i, y, j, seen)
    local a, b = x[i], y[j]
    if not a and not b then return true end
    local known = seen[i * 128 + j]
    if known ~= nil then return known end
    local meet = false
    if a and is_any(a) then
      meet = names_meet(x, i + 1, y, j, seen) or (b ~= nil and names_meet(x, i, y, j + 1, seen))
    end
    if not meet and b and is_any(b) then
      meet = names_meet(x, i, y, j + 1, seen) or (a ~= nil and names_meet(x, i + 1, y, j, seen))
    end
    if not meet and a and b then meet = part_meets(a, b) and names_meet(x, i + 1, y, j + 1, seen) end
    seen[i * 128 + j] = meet
    return meet
  end

  -- The other active names that overlap this one, by name. Patterns are found from the
  -- beginnings of the name, what lies beneath a pattern by its own fixed beginning.
  local function overlapping(t, name)
    local s = locks.of(t)
    local found = s.overlaps[name]
    if found then return found end
    local wild = is_glob(name)
    if not wild and not s.has_globs then return NONE end
    found = {}
    s.overlaps[name] = found
    local parts, seen = parts_of(name), { [name] = true }
    local function consider(other)
      if not seen[other] then
        seen[other] = true
        if names_meet(parts, 1, parts_of(other), 1, {}) then found[#found + 1] = other end
      end
    end
    local base = base_of(name)
    if s.has_globs then
      local beginning = ''
      for i = 0, #parts do
        if i > 0 then beginning = beginning .. parts[i] end
        if #beginning > #base then break end
        local rows = call('ZRANGEBYLEX', s.keys.globs, '[' .. beginning .. '\n', '(' .. beginning .. '\11',
          'LIMIT', 0, LOCK_OVERLAPS_MOST + 1)
        for k = 1, #rows do consider(string.sub(rows[k], #beginning + 2)) end
        if #rows > LOCK_OVERLAPS_MOST then s.is_broad = name end
      end
    end
    if wild then
      local from, to = base == '' and '-' or '[' .. base, base == '' and '+' or '(' .. base .. '\255'
      local rows = call('ZRANGEBYLEX', s.keys.all, from, to, 'LIMIT', 0, LOCK_OVERLAPS_MOST + 1)
      for k = 1, #rows do consider(rows[k]) end
      if #rows > LOCK_OVERLAPS_MOST then s.is_broad = name end
    end
    for i = 1, #s.added do consider(s.added[i]) end
    return found
  end

  -- A name that this call makes active is not in the index yet, but overlaps from here on.
  local function add_name(s, l)
    if l.was_active or l.is_added then return end
    l.is_added = true
    s.added[#s.added + 1] = l.name
    s.overlaps, s.has_globs = {}, s.has_globs or is_glob(l.name)
  end

  -- The name, and the active ones that overlap it.
  function locks.spots(t, name) return { name, unpack_values(overlapping(t, name)) } end

  -- Resources and holdings

  function locks.resource(t, name)
    local s = locks.of(t)
    local l = s.resources[name]
    if l then return l end
    local raw = call('HGETALL', s.keys.lock .. name)
    l = { name = name, raw = {}, parsed = {}, count = 0, waiting = 0, meta = false, limit = false,
      was_active = #raw > 0, is_dirty = false }
    for i = 1, #raw, 2 do
      if raw[i] == '~' then
        l.meta = raw[i + 1]
        local limit, is_waited = match(l.meta, '^(%d*)|(1?)$')
        l.limit = tonumber(limit) or false
        if is_waited == '1' then l.waiting = call('ZCARD', s.keys.queue .. name) end
      else
        l.raw[raw[i]] = raw[i + 1]
        l.count = l.count + 1
      end
    end
    s.resources[name] = l
    return l
  end

  function locks.holding(l, owner)
    local h = l.parsed[owner]
    if h == nil then
      local raw = l.raw[owner]
      if not raw then return nil end
      local mode, mark, count, first, fence, deadline, since, bell, op, agent = match(raw, HOLDING)
      if not mode then error('callboard: unreadable holding: ' .. raw) end
      h = { mode = mode, mark = mark, count = tonumber(count), first = first, fence = fence,
        deadline = tonumber(deadline), since = since, bell = bell, op = op, agent = agent }
      l.parsed[owner] = h
    end
    return h or nil
  end

  local function keep(t, l, owner, h)
    local s = locks.of(t)
    if not l.raw[owner] then
      l.count = l.count + 1
      hput(t, s.keys.owner .. owner, l.name, '')
      add_name(s, l)
    end
    local raw = h.mode .. '|' .. h.mark .. '|' .. h.count .. '|' .. h.first .. '|' .. h.fence .. '|'
      .. int(h.deadline) .. '|' .. h.since .. '|' .. h.bell .. '|' .. h.op .. '|' .. h.agent
    l.raw[owner], l.parsed[owner], l.is_dirty, l.groups = raw, h, true, nil
    hput(t, s.keys.lock .. l.name, owner, raw)
    -- What was handed over and not taken up falls due with its wait.
    zput(t, s.keys.due, l.name .. '\n' .. owner, h.mark ~= 'h' and int(h.deadline) or false)
  end

  function locks.ring(t, bell, owner)
    if bell == '' then return end
    local channel = locks.of(t).keys.bell .. bell
    local rung = t.bells[channel]
    t.bells[channel] = rung and rung .. ',' .. owner or owner
  end

  -- What changed for an owner may have closed a cycle: the sweep looks, and callers are told
  -- that there is something left.
  local function check_later(t, owner)
    zput(t, locks.of(t).keys.unchecked, owner, int(t.ms))
    t.has_locks_left = true
  end
  locks.check_later = check_later

  -- The same where an owner waits for a task or an answer too, and from here for that alone.
  local function check_elsewhere(t, w)
    local others = call('HMGET', locks.of(t).keys.waits, w.owner .. '\nt', w.owner .. '\nr')
    if others[1] or others[2] then check_later(t, w.owner) end
  end

  -- Takes a resource from its holder, whatever its count; `wake` then hands it over.
  function locks.drop(t, l, owner, how)
    local s, h = locks.of(t), locks.holding(l, owner)
    l.raw[owner], l.parsed[owner], l.is_dirty, l.groups = nil, nil, true, nil
    l.count = l.count - 1
    hput(t, s.keys.lock .. l.name, owner, false)
    hput(t, s.keys.owner .. owner, l.name, false)
    zput(t, s.keys.due, l.name .. '\n' .. owner, false)
    s.freed[#s.freed + 1] = l.name
    fact(t, 'resource:released', '', l.name, how, owner, h.fence, h.agent)
    if how ~= 'released' then locks.ring(t, h.bell, owner) end
    -- One that waits for more of it goes into line behind others now, which may close a cycle.
    local is_wanted = l.waiting > 0
    for _, other in ipairs(overlapping(t, l.name)) do
      is_wanted = is_wanted or locks.resource(t, other).waiting > 0
    end
    if is_wanted and locks.is_waiting(locks.wait_of(t, owner)) then check_later(t, owner) end
  end

  -- Waits

  function locks.parse_wait(owner, raw)
    local state, mode, limit, priority, since, score, deadline, lease, bell, op, agent, fence, names =
      match(raw, WAIT)
    if not state then error('callboard: unreadable wait: ' .. raw) end
    local set = { names }
    if string.find(names, ',', 1, true) then
      set = {}
      for name in gmatch(names, '[^,]+') do set[#set + 1] = name end
    end
    return { owner = owner, state = state, mode = mode, limit = tonumber(limit), priority = tonumber(priority),
      since = tonumber(since), score = tonumber(score), deadline = tonumber(deadline), lease = tonumber(lease),
      bell = bell, op = op, agent = agent, fence = fence, names = names, set = set }
  end

  local function load_waits(t, owners)
    local s, missing = locks.of(t), {}
    for i = 1, #owners do
      if s.waits[owners[i]] == nil then missing[#missing + 1] = owners[i] end
    end
    if #missing == 0 then return end
    local raws = call('HMGET', s.keys.waits, unpack_values(missing))
    for i = 1, #missing do
      s.waits[missing[i]] = raws[i] and locks.parse_wait(missing[i], raws[i]) or false
    end
  end

  function locks.wait_of(t, owner)
    load_waits(t, { owner })
    return locks.of(t).waits[owner] or nil
  end

  function locks.keep_wait(t, w, until_ms)
    local s = locks.of(t)
    s.waits[w.owner] = w
    hput(t, s.keys.waits, w.owner, w.state .. '|' .. w.mode .. '|' .. (w.limit or '') .. '|' .. w.priority .. '|'
      .. int(w.since) .. '|' .. int(w.score) .. '|' .. int(w.deadline) .. '|' .. int(w.lease) .. '|' .. w.bell
      .. '|' .. w.op .. '|' .. w.agent .. '|' .. w.fence .. '|' .. w.names)
    if until_ms then zput(t, s.keys.waits_due, w.owner, int(until_ms)) end
  end

  function locks.wait_until(t, w) return math.min(w.deadline, t.ms + LOCK_WAIT_LEASE_MS) end

  function locks.enqueue(t, w)
    local s = locks.of(t)
    for i = 1, #w.set do
      local l = locks.resource(t, w.set[i])
      if w.mode == 'p' then l.limit = w.limit end
      l.waiting, l.is_dirty = l.waiting + 1, true
      add_name(s, l)
      zput(t, s.keys.queue .. w.set[i], w.owner, int(w.score))
    end
    s.fresh = w
    locks.keep_wait(t, w, locks.wait_until(t, w))
  end

  local function leave_queues(t, w)
    local s = locks.of(t)
    for i = 1, #w.set do
      local l = locks.resource(t, w.set[i])
      l.waiting, l.is_dirty = l.waiting - 1, true
      zput(t, s.keys.queue .. w.set[i], w.owner, false)
    end
  end

  local function forget_wait(t, w)
    local s = locks.of(t)
    s.waits[w.owner] = false
    hput(t, s.keys.waits, w.owner, false)
    zput(t, s.keys.waits_due, w.owner, false)
  end

  -- Ends a wait that was not granted. One that had reserved its set gives way to others.
  function locks.unqueue(t, w)
    local s = locks.of(t)
    leave_queues(t, w)
    forget_wait(t, w)
    check_elsewhere(t, w)
    if w.state == 'r' then
      for i = 1, #w.set do s.freed[#s.freed + 1] = w.set[i] end
    end
    w.state = 'e'
  end

  local function is_waiting(w) return w and (w.state == 'w' or w.state == 'r') end
  locks.is_waiting = is_waiting

  -- Those in line for a resource, in order, from `first` to `last` of the queue as it stands;
  -- waits that this call ended are left out.
  local function in_line(t, name, first, last)
    local s = locks.of(t)
    local owners = call('ZRANGE', s.keys.queue .. name, first, last)
    load_waits(t, owners)
    local found = {}
    for i = 1, #owners do
      if is_waiting(s.waits[owners[i]]) then found[#found + 1] = s.waits[owners[i]] end
    end
    return found, #owners
  end

  -- Compatibility

  -- What an owner needs of a name that it may hold already: nil where that is enough,
  -- `upgrade`, or `other` where the two kinds do not go together.
  function locks.needs(l, owner, mode)
    local h = locks.holding(l, owner)
    if not h then return 'all' end
    if h.mode == 'x' or h.mode == mode then return nil end
    return mode == 'x' and 'upgrade' or 'other'
  end

  -- Whether a wait adds nothing to what `w` waits for: it wants no more, and `w` itself has
  -- nothing of it.
  local function covers(t, w, other)
    if w.mode ~= other.mode and w.mode ~= 'x' then return false end
    local names = {}
    for i = 1, #w.set do names[w.set[i]] = true end
    for i = 1, #other.set do
      if not names[other.set[i]] then return false end
      local spots = locks.spots(t, other.set[i])
      for k = 1, #spots do
        if locks.resource(t, spots[k]).raw[w.owner] then return false end
      end
    end
    return true
  end

  -- The beginning of a queue as it stands, with the lines of those in it.
  local function read_ahead(t, name)
    local s, rows = locks.of(t), {}
    local owners = call('ZRANGE', s.keys.queue .. name, 0, LOCK_QUEUE_SEEN - 1)
    local raws = #owners > 0 and call('HMGET', s.keys.waits, unpack_values(owners)) or NONE
    for i = 1, #owners do
      local raw = raws[i]
      if raw then
        rows[#rows + 1] = { owner = owners[i], raw = raw, is_reserved = string.byte(raw) == 114 }
      end
    end
    rows.unlike = {}
    s.ahead[name] = rows
    return rows
  end

  -- Those in it that want anything else than this one name in this mode.
  local function unlike(rows, name, mode)
    local found = rows.unlike[mode]
    if found then return found end
    local tail = '|' .. name
    found = {}
    for i = 1, #rows do
      local raw = rows[i].raw
      local is_like = string.sub(raw, -#tail) == tail and (mode == 'x' or string.sub(raw, 3, 3) == mode)
      if not is_like then found[#found + 1] = rows[i] end
    end
    rows.unlike[mode] = found
    return found
  end

  -- Reserved waits ahead of this one for a name; those that wait for nothing but what this
  -- one waits for too add nothing, unless `w` is the only question.
  local function add_reserved(t, w, name, group, is_graph)
    local l = locks.resource(t, name)
    if l.waiting == 0 then return end
    local s = locks.of(t)
    local ahead = s.ahead[name] or read_ahead(t, name)
    -- Most want just what this one wants, and add nothing: they are not even looked at.
    local is_usual = is_graph and #w.set == 1 and not s.has_globs and not l.raw[w.owner]
    local rows = is_usual and unlike(ahead, name, w.mode) or ahead
    for i = 1, #rows do
      local owner, other = rows[i].owner, s.waits[rows[i].owner]
      if other == nil and rows[i].is_reserved then
        other = locks.parse_wait(owner, rows[i].raw)
        s.waits[owner] = other
      end
      if other and other.state == 'r' and other.score < w.score and owner ~= w.owner
        and not (w.mode == 's' and other.mode == 's') and not (is_graph and covers(t, w, other)) then
        group[#group + 1] = { owner = owner, what = name, is_queue = true }
        if not is_graph then return end
      end
    end
  end

  -- What a wait for one name meets there, the same for all who hold nothing of it: the holders
  -- that all have to go, and the permits of which one has to. Kept until its holders change.
  local function groups_at(l, mode)
    l.groups = l.groups or {}
    local found = l.groups[mode]
    if found then return found end
    local all, permits = {}, { any = true }
    for owner, raw in pairs(l.raw) do
      local held = string.sub(raw, 1, 1)
      if mode == 'p' and held == 'p' then
        permits[#permits + 1] = { owner = owner, what = l.name, is_queue = false }
      elseif held ~= 's' or mode ~= 's' then
        all[#all + 1] = { owner = owner, what = l.name, is_queue = false }
      end
    end
    found = { all = all, permits = permits }
    l.groups[mode] = found
    return found
  end

  -- What keeps a wait from being granted, as groups: of a group with `any` one member has
  -- to go, of the other ones all. Empty where it can be granted. With `first` it stops at
  -- the first that it finds.
  function locks.blockers(t, w, first)
    local groups, all = {}, {}
    for i = 1, #w.set do
      local name = w.set[i]
      local l = locks.resource(t, name)
      local needs = locks.needs(l, w.owner, w.mode)
      if needs then
        local others = overlapping(t, name)
        local is_within = needs == 'upgrade' -- others may wait for what it has: they go behind
        local is_plain = not first and needs == 'all' and #others == 0
          and (w.mode ~= 's' or l.count < LOCK_HOLDERS_MOST)
        if is_plain then
          local at = groups_at(l, w.mode)
          if #at.permits > 0 and #at.permits >= w.limit then groups[#groups + 1] = at.permits end
          if #at.all > 0 then groups[#groups + 1] = at.all end
        end
        for k = is_plain and 1 or 0, #others do
          local spot, permits = k == 0 and l or locks.resource(t, others[k]), nil
          for owner, raw in pairs(spot.raw) do
            local mode = string.sub(raw, 1, 1)
            if owner == w.owner then
              is_within = is_within or mode == 'x' or mode == w.mode
            elseif k == 0 and mode == 'p' and w.mode == 'p' then
              permits = permits or { any = true }
              permits[#permits + 1] = { owner = owner, what = name, is_queue = false }
            elseif mode ~= 's' or w.mode ~= 's' then
              all[#all + 1] = { owner = owner, what = spot.name, is_queue = false }
            end
          end
          if k == 0 and w.mode == 's' and l.count >= LOCK_HOLDERS_MOST then
            permits = { any = true }
            for owner in pairs(l.raw) do permits[#permits + 1] = { owner = owner, what = name } end
          end
          if permits and (w.mode == 's' or #permits >= w.limit) then groups[#groups + 1] = permits end
        end
        if first and (#all > 0 or #groups > 0) then return { all, groups[1] } end
        if not is_within then
          add_reserved(t, w, name, all, not first)
          for k = 1, #others do add_reserved(t, w, others[k], all, not first) end
          if first and #all > 0 then return { all } end
        end
      end
    end
    if #all > 0 then groups[#groups + 1] = all end
    return groups
  end

  -- The first thing in the way of a wait: resource, owner, agent, and until when; or nil.
  function locks.in_the_way(t, w)
    local groups = locks.blockers(t, w, true)
    if #groups == 0 then return nil end
    local first = groups[1][1] or groups[2][1]
    local h = not first.is_queue and locks.holding(locks.resource(t, first.what), first.owner)
    return { first.what, first.owner, h and h.agent or '', h and int(h.deadline) or '' }
  end

  -- Holders in the way whose lease is over: pairs of resource and owner.
  function locks.overdue(t, w)
    local found, seen = {}, {}
    for i = 1, #w.set do
      local spots = locks.spots(t, w.set[i])
      for k = 1, #spots do
        local l = locks.resource(t, spots[k])
        for owner in pairs(seen[l.name] and NONE or l.raw) do
          local h = owner ~= w.owner and locks.holding(l, owner)
          if h and h.mark ~= 'h' and is_over(t, h.deadline) then found[#found + 1] = { l, owner } end
        end
        seen[l.name] = true
      end
    end
    return found
  end

  -- Granting

  local function fresh_holding(t, w, fence)
    return { mode = w.mode, mark = '', count = 1, first = fence, fence = fence, deadline = 0,
      since = int(t.ms), bell = w.bell, op = w.op, agent = w.agent }
  end

  local function tell_acquired(t, name, w, h)
    fact(t, 'resource:acquired', '', name, MODES[h.mode], w.owner, h.fence, w.agent)
  end

  -- Grants what nothing blocks. One fence for all that is new; what its owner held already
  -- counts once more, under the fence it had.
  function locks.grant(t, w)
    local fence, fences = nil, {}
    for i = 1, #w.set do
      local l = locks.resource(t, w.set[i])
      local needs, h = locks.needs(l, w.owner, w.mode), locks.holding(l, w.owner)
      if needs then fence = fence or int(take_fences(t, 1)) end
      if needs == 'all' then
        h = fresh_holding(t, w, fence)
        if w.mode == 'p' then l.limit = w.limit end
      else
        h.count, h.op, h.bell = h.count + 1, w.op, w.bell
        if needs then h.mode, h.fence = 'x', fence end
      end
      h.deadline = math.max(h.deadline, t.ms + w.lease)
      keep(t, l, w.owner, h)
      if needs then tell_acquired(t, l.name, w, h) end
      fences[i] = h.fence
    end
    return fences
  end

  -- Makes a waiter the holder before it knows: its bell is rung, and it has to take it up.
  local function hand_over(t, w)
    local s, fence = locks.of(t), int(take_fences(t, 1))
    leave_queues(t, w)
    for i = 1, #w.set do
      local l = locks.resource(t, w.set[i])
      local needs, h = locks.needs(l, w.owner, w.mode), locks.holding(l, w.owner)
      if needs == 'all' then
        h = fresh_holding(t, w, fence)
        h.mark, h.deadline = 'h', t.ms + LOCK_TAKE_UP_MS
      elseif needs then
        h.mode, h.fence, h.mark = 'x', fence, 'u'
      end
      if needs then
        keep(t, l, w.owner, h)
        tell_acquired(t, l.name, w, h)
      end
    end
    if w.state == 'r' and w.mode == 'p' then -- who queued behind it may go with it
      for i = 1, #w.set do s.freed[#s.freed + 1] = w.set[i] end
    end
    check_elsewhere(t, w)
    w.state, w.fence = 'g', fence
    locks.keep_wait(t, w, t.ms + LOCK_TAKE_UP_MS)
    locks.ring(t, w.bell, w.owner)
  end

  -- The waiter takes up what was handed to it: from here its lease runs.
  function locks.take_up(t, w)
    local fences = {}
    for i = 1, #w.set do
      if not locks.holding(locks.resource(t, w.set[i]), w.owner) then return nil end -- taken by force
    end
    for i = 1, #w.set do
      local l = locks.resource(t, w.set[i])
      local h = locks.holding(l, w.owner)
      if h.mark == 'h' then
        h.deadline = t.ms + w.lease
      else
        h.count = h.count + 1
        h.deadline = math.max(h.deadline, t.ms + w.lease)
      end
      h.mark, h.op = '', w.op
      keep(t, l, w.owner, h)
      fences[i] = h.fence
    end
    forget_wait(t, w)
    return fences
  end

  -- Takes back what was handed to a waiter that did not take it up, or does not want it.
  function locks.take_back(t, w, how)
    forget_wait(t, w)
    for i = 1, #w.set do
      local l = locks.resource(t, w.set[i])
      local h = locks.holding(l, w.owner)
      if h and h.mark == 'h' then
        locks.drop(t, l, w.owner, how)
      elseif h and h.mark == 'u' then
        h.mode, h.mark = 's', ''
        keep(t, l, w.owner, h)
        locks.of(t).freed[#locks.of(t).freed + 1] = l.name
      end
    end
    w.state = 'e'
  end

  -- Ends a wait, whatever became of it.
  function locks.end_wait(t, w, how)
    if w.state == 'g' then
      locks.take_back(t, w, how)
    elseif is_waiting(w) then
      locks.unqueue(t, w)
    end
  end

  local function is_closed(t, name)
    local l = locks.resource(t, name)
    for _, raw in pairs(l.raw) do
      local mode = string.sub(raw, 1, 1)
      if mode == 'x' or (mode == 'p' and l.count >= (l.limit or 1)) then return true end
      if mode == 's' then return false end
    end
    return false
  end

  -- The names of `s.freed` from `at` on, and those that overlap them, once each.
  local function freed_from(t, at)
    local s, spots, seen = locks.of(t), {}, {}
    for i = at, #s.freed do
      local name = s.freed[i]
      local others = overlapping(t, name)
      for k = 0, #others do
        local spot = k == 0 and name or others[k]
        if not seen[spot] then
          seen[spot] = true
          spots[#spots + 1] = spot
        end
      end
    end
    return spots
  end

  -- Those on this page of each spot's line, in the order of the whole line; and the spots
  -- whose lines go on behind it.
  local function candidates_on(t, spots, page)
    local s, candidates, seen, further = locks.of(t), {}, {}, {}
    local function add(w)
      if not seen[w.owner] then
        seen[w.owner] = true
        candidates[#candidates + 1] = w
      end
    end
    for k = 1, #spots do
      if locks.resource(t, spots[k]).waiting > 0 then
        local found, count = in_line(t, spots[k], page * LOCK_PAGE, page * LOCK_PAGE + LOCK_PAGE - 1)
        for i = 1, #found do add(found[i]) end
        if count == LOCK_PAGE then further[#further + 1] = spots[k] end
      end
    end
    if page == 0 and is_waiting(s.fresh) then add(s.fresh) end
    if #spots > 1 or s.fresh then
      table.sort(candidates, function(x, y)
        return x.score < y.score or (x.score == y.score and x.owner < y.owner)
      end)
    end
    return candidates, further
  end

  local function serve(t, w)
    local s = locks.of(t)
    local alive_until = w == s.fresh and t.ms + 1
      or tonumber(call('ZSCORE', s.keys.waits_due, w.owner) or '0')
    if alive_until > t.ms or not is_over(t, alive_until) then
      hand_over(t, w)
    else
      locks.unqueue(t, w)
    end
  end

  -- Hands what was freed to those in line, in order. Dead waiters on the way are dropped.
  -- Queues are looked at page by page, until nothing more of them can be granted.
  function locks.wake(t)
    local s, at = locks.of(t), 1
    while at <= #s.freed and at <= LOCKS_HELD_MOST * 2 do -- bounded by LOCKS_HELD_MOST
      local spots = freed_from(t, at)
      at = #s.freed + 1
      for page = 0, LOCK_PAGES - 1 do
        local candidates, further = candidates_on(t, spots, page)
        for i = 1, #candidates do
          local w = candidates[i]
          if is_waiting(w) and #locks.blockers(t, w, true) == 0 then serve(t, w) end
        end
        spots = {}
        for k = 1, #further do
          if not is_closed(t, further[k]) then spots[#spots + 1] = further[k] end
        end
        if #spots == 0 then break end
        if page == LOCK_PAGES - 1 then
          for k = 1, #spots do zput(t, s.keys.pending, spots[k], int(t.ms)) end
          t.has_locks_left = true
        end
      end
    end
    s.freed = {}
  end

  -- Whether an owner holds it, under this fence where one is given (not 0).
  local function is_holder(l, owner, fence)
    local h = locks.holding(l, owner)
    if not h or h.mark == 'h' then return nil end
    return (fence == 0 or tonumber(h.first) <= fence and fence <= tonumber(h.fence)) and h or nil
  end
  locks.is_holder = is_holder

  function locks.renew(t, l, owner, fence, deadline)
    local h = is_holder(l, owner, fence)
    if h and deadline > h.deadline then
      h.deadline = deadline
      keep(t, l, owner, h)
    end
    return h
  end

  -- One release for one acquisition; `kept` while others of the same owner are left.
  function locks.release(t, l, owner, fence, operation)
    local h = is_holder(l, owner, fence)
    if not h then return 'lock_lost' end
    if h.op == operation then return 'kept' end
    if h.count > 1 then
      h.count, h.op = h.count - 1, operation
      keep(t, l, owner, h)
      return 'kept'
    end
    locks.drop(t, l, owner, 'released')
    return 'ok'
  end

  -- Gives back all that an owner holds and ends its waits; how many resources that were.
  function locks.release_all(t, owner, how)
    local s = locks.of(t)
    local w = locks.wait_of(t, owner)
    if w then locks.end_wait(t, w, 'lapsed') end
    local names = call('HKEYS', s.keys.owner .. owner)
    local count = 0
    for i = 1, #names do
      local l = locks.resource(t, names[i])
      if locks.holding(l, owner) then
        locks.drop(t, l, owner, how)
        count = count + 1
      end
    end
    return count
  end

  -- Other waits of an owner: of a parked task, of requests, and what it was told as a victim.
  function locks.forget_others(t, owner)
    local s = locks.of(t)
    local h = call('HMGET', s.keys.waits, owner .. '\nt', owner .. '\nr', owner .. '\nv', owner .. '\nq')
    if h[2] then
      for id in gmatch(h[2], '([^;,]+)[^;]*') do
        hput(t, s.keys.requests, id, false)
        zput(t, s.keys.waits_due, owner .. '\nr\n' .. id, false)
      end
    end
    for i, letter in ipairs({ 't', 'r', 'v', 'q' }) do
      if h[i] then hput(t, s.keys.waits, owner .. '\n' .. letter, false) end
    end
    if h[3] then zput(t, s.keys.waits_due, owner .. '\nv', false) end
    if h[4] then zput(t, s.keys.waits_due, owner .. '\nq', false) end
  end

  -- What changed, into the index of active names and each name's own line. Comes before the
  -- gathered writes are written.
  function locks.flush(t)
    local s = t.locks
    if not s then return end
    for name, l in pairs(s.resources) do
      if l.is_dirty then
        local is_active = l.count > 0 or l.waiting > 0
        local meta = is_active and (l.limit or l.waiting > 0)
          and (l.limit or '') .. '|' .. (l.waiting > 0 and '1' or '') or false
        if meta ~= l.meta then hput(t, s.keys.lock .. name, '~', meta) end
        if is_active ~= l.was_active then
          zput(t, s.keys.all, name, is_active and 0 or false)
          if is_glob(name) then zput(t, s.keys.globs, base_of(name) .. '\n' .. name, is_active and 0 or false) end
        end
        l.meta, l.was_active, l.is_dirty = meta, is_active, false
      end
    end
    s.ahead = {} -- what is written now stands in the queues
  end

  -- Writes all that this call did with locks, after handing over what it freed.
  function locks.close(t)
    locks.wake(t)
    locks.flush(t)
    close(t)
  end

  -- Claims that ended in this call: their locks go back with them.
  function locks.end_claims(t)
    local owners = t.ended_claims
    t.ended_claims = nil
    for i = 1, #owners do
      locks.release_all(t, owners[i], 'ended')
      locks.forget_others(t, owners[i])
    end
    locks.wake(t)
    locks.flush(t)
  end
end
