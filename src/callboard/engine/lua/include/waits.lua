-- Who waits for whom, over locks, tasks and requests, and the cycles among them.
-- include lock

-- A node is an owner, or a task (`\ttask:board:id`). An owner's other waits stand beside its
-- wait for locks, under its name and a letter: `t` a task that it is parked for, `board:task|
-- priority|since|bell`; `r` requests, `id,receiver,since;…`; `q` that it took up a request;
-- `v` the incident whose victim it is.
--
-- An owner is stuck where none of its waits can end. A wait for locks can end where all who
-- are in the way can still run: of a shared lock every holder has to go, of a semaphore
-- that is full any one. So a cycle is a deadlock, except through a semaphore or an agent
-- that somebody else of may free: there all of them have to be stuck.
local waits = {}
local WAITS_VISITS, WAITS_VISITS_SWEEP, WAITS_ROUNDS = 1500, 12000, 16
local WAITS_REQUESTS_MOST, WAITS_HOLDERS_MOST = 100, 100
local VICTIM_TOLD_MS, VICTIM_GRACE_MS, KARMA_KEPT_MS = 60000, 5000, 600000
local INCIDENTS_MOST, INCIDENTS_KEPT_MS = 1000, 604800000

do
  local TASK, NONE = '\ttask:', {}
  -- Of a wait: state, mode, priority, since, score, names.
  local CHASED = '^(%a)|(%a)|%d*|(%-?%d+)|(%d+)|(%-?%d+)|%d+|%d+|[^|]*|[^|]*|[^|]*|%d*|(.*)$'

  local function read_known(owner, h, at)
    local known = { task = false, requests = NONE, verdict = h[at + 3] }
    if h[at + 1] then
      local board_name, id, priority, since, bell = match(h[at + 1], '^([^:]*):([^|]*)|(%-?%d+)|(%d+)|(.*)$')
      known.task = { board = board_name, id = id, priority = tonumber(priority), since = tonumber(since), bell = bell }
    end
    if h[at + 2] then
      known.requests = {}
      for id, receiver, since, bell in gmatch(h[at + 2], '([^,;]+),([^,;]*),(%d+),([^,;]*)') do
        known.requests[#known.requests + 1] = { id = id, receiver = receiver, since = tonumber(since), bell = bell }
      end
    end
    return known
  end

  -- All that these owners wait for, from `first` on, read once a call.
  local function load_known(t, owners, first)
    local s, fields, missing = locks.of(t), {}, {}
    for i = first, #owners do
      local owner = owners[i]
      if not s.loaded[owner] and string.byte(owner) ~= 9 then -- a task begins with a tab
        local n = #fields
        fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = owner, owner .. '\nt', owner .. '\nr', owner .. '\nv'
        missing[#missing + 1] = owner
        if n + 8 > BATCH_VALUES then break end
      end
    end
    if #missing == 0 then return end
    local h = call('HMGET', s.keys.waits, unpack_values(fields))
    for i = 1, #missing do
      local owner, at = missing[i], i * 4 - 3
      if s.waits[owner] == nil then s.waits[owner] = h[at] and locks.parse_wait(owner, h[at]) or false end
      s.loaded[owner] = read_known(owner, h, at)
    end
  end

  function waits.of(t, owner)
    local s = locks.of(t)
    if not s.loaded[owner] then load_known(t, { owner }, 1) end
    return s.loaded[owner]
  end

  -- What an owner waits for, as it begins another wait: a verdict on an earlier one that it
  -- did not hear is not for this.
  function waits.begin(t, owner)
    local known = waits.of(t, owner)
    if known.verdict then waits.told(t, owner) end
    known.verdict = false
    return known
  end

  local function keep_requests(t, owner, requests)
    local rows = {}
    for i, r in ipairs(requests) do rows[i] = r.id .. ',' .. r.receiver .. ',' .. int(r.since) .. ',' .. r.bell end
    hput(t, locks.of(t).keys.waits, owner .. '\nr', #rows > 0 and concat(rows, ';') or false)
  end

  -- A task that is held waits for its holder, one that is blocked for what it depends on.
  local function groups_of_task(t, board_name, id)
    local b = board(t, board_name)
    local r = load_record(b, id)
    if not r then return nil end
    if HELD[r[STATUS]] then
      return { { { owner = locks.claim_owner(board_name, id, r[FENCE]), what = '' } } }
    end
    if r[STATUS] ~= 'b' then return nil end
    local needs = call('SMEMBERS', b.keys.needs .. id)
    if #needs > BATCH_VALUES then return nil end
    load_records(b, needs)
    local group = {}
    for i = 1, #needs do
      local need = b.records[needs[i]]
      if need and not FINISHED[need[STATUS]] then
        group[#group + 1] = { owner = TASK .. board_name .. ':' .. needs[i], what = '' }
      end
    end
    return { group }
  end

  -- Whoever took the request has to answer it. Before, any task that its receiver works on
  -- may make room; an agent with room, or one that is not known, can still run.
  local function groups_of_request(t, request)
    local s = locks.of(t)
    local taker = s.takers[request.id] or match(call('HGET', s.keys.requests, request.id) or '', '|([^|]*)$')
    if taker and taker ~= '' then return { { { owner = taker, what = request.id } } } end
    local key = held_key(t.prefix, request.receiver)
    local count = call('ZCARD', key)
    local limit = tonumber(call('HGET', agent_key(t.prefix, request.receiver), 'ready_limit') or '0')
    if count == 0 or count < limit or count > WAITS_HOLDERS_MOST then return nil end
    local rows, group = call('ZRANGE', key, 0, -1, 'WITHSCORES'), { any = true }
    for i = 1, #rows, 2 do
      local board_name, id = match(rows[i], '^([^:]*):(.*)$')
      group[#group + 1] = { owner = locks.claim_owner(board_name, id, int(tonumber(rows[i + 1]))), what = request.id }
    end
    return { group }
  end

  -- What a node waits for: a list of waits, each a list of groups as `locks.blockers` has
  -- them. Empty where it can run.
  local function waits_of(t, node)
    local found = {}
    if string.sub(node, 1, #TASK) == TASK then
      local board_name, id = match(node, '^\ttask:([^:]*):(.*)$')
      found[1] = groups_of_task(t, board_name, id)
      return found
    end
    local known = waits.of(t, node)
    local w = locks.of(t).waits[node]
    if locks.is_waiting(w) then found[1] = locks.blockers(t, w) end
    if known.task then found[#found + 1] = groups_of_task(t, known.task.board, known.task.id) or {} end
    for _, request in ipairs(known.requests) do
      found[#found + 1] = groups_of_request(t, request) or {}
    end
    return found
  end

  -- All that these nodes wait for, directly or through others, at most `most` of them, and
  -- which of them can still run: a node all of whose waits are open, where one can end. Those
  -- beyond the bound are taken for free. A group that many wait for is looked at once.
  function waits.explore(t, order, most)
    local nodes, behind, seen, free, is_cut, at = {}, {}, {}, {}, false, 1
    for i = 1, #order do nodes[order[i]] = { name = order[i], waits = NONE, is_free = false } end
    local function set_free(node)
      if not node.is_free then
        node.is_free = true
        free[#free + 1] = node
      end
    end
    local function look_at(group)
      local g = { open = group.any and 1 or #group, waits = {} }
      for m = 1, #group do
        local other = group[m].owner
        if not nodes[other] and #order < most then
          order[#order + 1] = other
          nodes[other] = { name = other, waits = NONE, is_free = false }
        end
        if nodes[other] then
          local list = behind[other]
          if list then list[#list + 1] = g else behind[other] = { g } end
        else
          is_cut = true
          g.open = g.open - 1
        end
      end
      if #group == 0 and group.any then g.open = 1 end
      return g
    end
    while at <= #order do -- bounded by most
      if not locks.of(t).loaded[order[at]] then load_known(t, order, at) end
      local node = nodes[order[at]]
      node.waits = waits_of(t, order[at])
      if #node.waits == 0 then set_free(node) end
      for i = 1, #node.waits do
        local groups, wait = node.waits[i], { node = node, left = 0 }
        for k = 1, #groups do
          local g = seen[groups[k]]
          if not g then
            g = look_at(groups[k])
            seen[groups[k]] = g
          end
          if g.open > 0 then
            wait.left = wait.left + 1
            g.waits[#g.waits + 1] = wait
          end
        end
        if wait.left == 0 then set_free(node) end
      end
      at = at + 1
    end
    at = 1
    while at <= #free do -- bounded by most: each node becomes free once
      for _, g in ipairs(behind[free[at].name] or NONE) do
        g.open = g.open - 1
        if g.open == 0 then
          for _, wait in ipairs(g.waits) do
            wait.left = wait.left - 1
            if wait.left == 0 then set_free(wait.node) end
          end
        end
      end
      at = at + 1
    end
    return { nodes = nodes, order = order, is_cut = is_cut }
  end

  -- The shortest cycle of stuck nodes through `start`; where there is none, the first that a
  -- walk from it comes to. A list of names, each waiting for the next, the last for the first.
  local function cycle_of(graph, start)
    local nodes, known = graph.nodes, {}
    local function stuck_members(name)
      local all = nodes[name].waits
      local only = #all == 1 and #all[1] == 1 and all[1][1] -- often the same for many
      if only and known[only] then return known[only] end
      local found = {}
      for _, groups in ipairs(nodes[name].waits) do
        for _, group in ipairs(groups) do
          for _, member in ipairs(group) do
            local node = nodes[member.owner]
            if node and not node.is_free then found[#found + 1] = member.owner end
          end
        end
      end
      table.sort(found)
      if only then known[only] = found end
      return found
    end
    local from, queue, at = {}, { start }, 1
    while at <= #queue do -- bounded by the graph
      local found = stuck_members(queue[at])
      for i = 1, #found do
        if found[i] == start then
          local back, cycle, name = {}, {}, queue[at]
          while name do -- bounded by the graph
            back[#back + 1] = name
            name = from[name]
          end
          for k = #back, 1, -1 do cycle[#cycle + 1] = back[k] end
          return cycle
        end
        if from[found[i]] == nil then
          from[found[i]] = queue[at]
          queue[#queue + 1] = found[i]
        end
      end
      at = at + 1
    end
    local path, place, name = {}, {}, start
    while name and not place[name] do -- bounded by the graph
      path[#path + 1] = name
      place[name] = #path
      name = stuck_members(name)[1]
    end
    local cycle = {}
    for i = place[name] or 1, #path do cycle[#cycle + 1] = path[i] end
    return cycle
  end

  -- What stands between a waiting node and the one it waits for: the resources, sorted.
  local function labels_between(graph, name, other)
    local found, seen = {}, {}
    for _, groups in ipairs(graph.nodes[name].waits) do
      for _, group in ipairs(groups) do
        for _, member in ipairs(group) do
          if member.owner == other and member.what ~= '' and not seen[member.what] then
            seen[member.what] = true
            found[#found + 1] = member.what
          end
        end
      end
    end
    table.sort(found)
    return found
  end

  local function is_task(name) return string.sub(name, 1, 1) == '\t' end

  -- Priority and beginning of what an owner waits for.
  local function account_of(t, owner)
    local known, w = waits.of(t, owner), locks.of(t).waits[owner]
    local a = { priority = 0, since = 0 }
    if locks.is_waiting(w) then
      a.priority, a.since = w.priority, w.since
    elseif known.task then
      a.priority, a.since = known.task.priority, known.task.since
    elseif known.requests[1] then
      a.since = known.requests[1].since
    end
    return a
  end

  -- The agent that an owner works for: of its claim; else as it said for its wait, or for
  -- what it holds.
  local function agent_behind(t, owner)
    local s, board_name, id = locks.of(t), locks.claim_of(owner)
    if board_name then
      local r = load_record(board(t, board_name), id)
      return r and agent_of(r) or ''
    end
    if s.waits[owner] and s.waits[owner].agent ~= '' then return s.waits[owner].agent end
    for _, name in ipairs(call('HKEYS', s.keys.owner .. owner)) do
      local h = locks.holding(locks.resource(t, name), owner)
      if h and h.agent ~= '' then return h.agent end
    end
    return ''
  end

  -- A cycle's links: who waits, for what of the next one, which agent the next one works for.
  local function links_of(t, graph, cycle)
    local links = {}
    for i = 1, #cycle do
      local name, following = cycle[i], cycle[i % #cycle + 1]
      local link = { name = name, labels = labels_between(graph, name, following), agent = '' }
      if not is_task(following) then link.agent = agent_behind(t, following) end
      if not is_task(name) then
        local a = account_of(t, name)
        link.priority, link.since = a.priority, a.since
      end
      links[i] = link
    end
    return links
  end

  -- The usual case, without a graph: each waits alone for one name that one other holds. Says
  -- `free` where that leads to somebody who can run, `cycle` with its links, or `branches`.
  local function chase(t, start, most)
    local s, links, seen, name = locks.of(t), {}, {}, start
    if s.has_globs then return 'branches' end
    for i = 1, most do
      local cached, mode, score, resource, priority, since = s.waits[name], nil, nil, nil, nil, nil
      if is_task(name) then return 'branches' end
      if cached ~= nil then
        local known = waits.of(t, name)
        if known.task or #known.requests > 0 then return 'branches' end
        if not locks.is_waiting(cached) then return 'free', nil, i end
        mode, score, resource = cached.mode, int(cached.score), cached.names
        priority, since = cached.priority, cached.since
      else
        local h = call('HMGET', s.keys.waits, name, name .. '\nt', name .. '\nr')
        if h[2] or h[3] then return 'branches' end
        local state
        if h[1] then state, mode, priority, since, score, resource = match(h[1], CHASED) end
        if not h[1] or state == 'g' then return 'free', nil, i end
      end
      if mode ~= 'x' or string.find(resource, '[,*?]') then return 'branches' end
      local l, holder, raw = s.resources[resource], nil, nil
      if l then
        if l.count ~= 1 then return 'branches' end
        holder, raw = next(l.raw)
      else
        local rows = call('HGETALL', s.keys.lock .. resource)
        if #rows > 4 then return 'branches' end
        holder, raw = rows[1], rows[2]
        if holder == '~' then holder, raw = rows[3], rows[4] end
        if not holder or #rows == 4 and rows[1] ~= '~' and rows[3] ~= '~' then return 'branches' end
      end
      -- One ahead that has reserved more than this name is a branch; others add nothing.
      local ahead = call('ZRANGEBYSCORE', s.keys.queue .. resource, '-inf', '(' .. score,
        'LIMIT', 0, LOCK_QUEUE_SEEN)
      local raws = #ahead > 0 and call('HMGET', s.keys.waits, unpack_values(ahead)) or NONE
      for k = 1, #ahead do
        local other = s.waits[ahead[k]]
        if other and other.state == 'r' and #other.set > 1
          or raws[k] and string.byte(raws[k]) == 114 and string.find(raws[k], ',', 1, true) then
          return 'branches'
        end
      end
      links[i] = { name = name, labels = { resource }, agent = match(raw, '^.*|(.*)$'),
        priority = tonumber(priority), since = tonumber(since) }
      if holder == start then return 'cycle', links, i end
      if holder == name or seen[holder] then return 'branches' end
      seen[holder], name = true, holder
    end
    return 'branches'
  end

  -- How many resources an owner holds, with what this call will write.
  local function held_by(t, owner)
    local key = locks.of(t).keys.owner .. owner
    local count = call('HLEN', key)
    for name, value in pairs(t.hashes[key] or NONE) do
      local is_kept = call('HEXISTS', key, name) == 1
      if value and not is_kept then count = count + 1 end
      if not value and is_kept then count = count - 1 end
    end
    return count
  end

  -- Lowest priority, raised by a point for each time it was a victim in the last ten minutes;
  -- then who holds least; then who waits shortest; then by name.
  local function choose(t, links)
    local s, owners, keys = locks.of(t), {}, {}
    for i = 1, #links do
      if not is_task(links[i].name) and #owners < BATCH_VALUES then
        owners[#owners + 1] = links[i]
        keys[#keys + 1] = s.keys.karma .. links[i].name
      end
    end
    if #owners == 0 then return nil end
    local karma, lowest, best = call('MGET', unpack_values(keys)), math.huge, nil
    for i = 1, #owners do
      owners[i].rank = owners[i].priority + tonumber(karma[i] or '0')
      if owners[i].rank < lowest then lowest = owners[i].rank end
    end
    for i = 1, #owners do
      local a = owners[i]
      if a.rank == lowest then
        a.held = held_by(t, a.name)
        if not best or a.held < best.held or (a.held == best.held
          and (a.since > best.since or (a.since == best.since and a.name < best.name))) then
          best = a
        end
      end
    end
    return best.name
  end

  -- Takes all its waits from a victim, and has it told.
  local function end_waits(t, owner, incident)
    local s, known = locks.of(t), waits.of(t, owner)
    local w, bells = locks.wait_of(t, owner), {}
    if w then
      bells[w.bell] = true
      locks.end_wait(t, w, 'lapsed')
    end
    if known.task then
      bells[known.task.bell] = true
      hput(t, s.keys.waits, owner .. '\nt', false)
    end
    for _, r in ipairs(known.requests) do
      bells[r.bell] = true
      hput(t, s.keys.requests, r.id, false)
      zput(t, s.keys.waits_due, owner .. '\nr\n' .. r.id, false)
    end
    if #known.requests > 0 then keep_requests(t, owner, {}) end
    known.task, known.requests = false, NONE
    hput(t, s.keys.waits, owner .. '\nv', incident)
    zput(t, s.keys.waits_due, owner .. '\nv', int(t.ms + VICTIM_TOLD_MS))
    for bell in pairs(bells) do locks.ring(t, bell, owner) end
  end

  local function add_all(list, seen, items)
    for _, item in ipairs(items) do
      if not seen[item] then
        seen[item] = true
        list[#list + 1] = item
      end
    end
  end

  -- Ends the victim's waits, keeps the cycle as an incident, and plans that what the victim
  -- holds of the cycle is taken from it, should it not give it back. Answers the incident.
  local function sacrifice(t, links, victim, reason, visits)
    local s, incident = locks.of(t), int(take_fences(t, 1))
    local owners, agents, resources, edges, seen = {}, {}, {}, {}, {}
    for i = 1, #links do
      local link, following = links[i], links[i % #links + 1].name
      if not is_task(link.name) then owners[#owners + 1] = link.name end
      if link.agent ~= '' then add_all(agents, seen, { link.agent }) end
      edges[i] = string.gsub(link.name, '^\t', '') .. '|' .. concat(link.labels, ',') .. '|'
        .. string.gsub(following, '^\t', '')
      for _, label in ipairs(link.labels) do
        if not seen['=' .. label] then
          seen['=' .. label] = true
          resources[#resources + 1] = label
        end
        local h = following == victim and locks.holding(locks.resource(t, label), victim)
        if h then
          zput(t, s.keys.forced, label .. '\n' .. victim .. '\n' .. h.fence, int(t.ms + VICTIM_GRACE_MS))
        end
      end
    end
    end_waits(t, victim, incident)
    call('INCR', s.keys.karma .. victim)
    call('PEXPIRE', s.keys.karma .. victim, KARMA_KEPT_MS)
    call('XADD', s.keys.incidents, 'MAXLEN', '~', INCIDENTS_MOST, incident .. '-0', 'at', t.ms, 'victim', victim,
      'reason', reason, 'owners', concat(owners, '\n'), 'agents', concat(agents, '\n'),
      'resources', concat(resources, '\n'), 'edges', concat(edges, '\n'), 'visits', visits)
    call('XTRIM', s.keys.incidents, 'MINID', '~', int(t.now - INCIDENTS_KEPT_MS * 1000) .. '-0')
    call('PEXPIRE', s.keys.incidents, INCIDENTS_KEPT_MS)
    fact(t, 'deadlock:detected', '', incident, 'resolved', victim, 0, concat(agents, ',') .. '|' .. concat(resources, ','))
    return incident
  end

  -- Reservations through which a cycle runs are given up, until their owners are heard of again:
  -- whoever waits only in line behind them goes first, and nobody has to be a victim for it.
  -- Whether there were any.
  local function yield(t, graph, cycle)
    local s, found = locks.of(t), false
    for i = 1, #cycle do
      local following = cycle[i % #cycle + 1]
      local w, is_held = s.waits[following], false
      for _, groups in ipairs(graph.nodes[cycle[i]].waits) do
        for _, group in ipairs(groups) do
          for _, member in ipairs(group) do
            is_held = is_held or member.owner == following and not member.is_queue
          end
        end
      end
      if not is_held and w and w.state == 'r' then
        w.state, found = 'w', true
        locks.keep_wait(t, w)
        for k = 1, #w.set do s.freed[#s.freed + 1] = w.set[k] end
      end
    end
    return found
  end

  -- Fails with WRONGTYPE where what a check may write is somebody else's.
  function waits.touch(t, owner)
    local s = locks.of(t)
    locks.touch(t, owner)
    touch('HLEN', s.keys.waits)
    touch('XLEN', s.keys.incidents)
    touch('HLEN', s.keys.requests)
    touch('ZCARD', s.keys.unchecked)
  end

  -- Ends every deadlock that the waits of `start` are part of, or lead to. Answers the
  -- incident where `start` is a victim itself; else nil, and whether the bound was met.
  function waits.check(t, start, most)
    local s = locks.of(t)
    most = most or WAITS_VISITS
    for _ = 1, WAITS_ROUNDS do
      local how, links, visits = chase(t, start, most)
      if how == 'free' then return nil, false end
      if how == 'branches' then
        local graph = waits.explore(t, { start }, most)
        if graph.nodes[start].is_free then
          if not graph.is_cut then return nil, false end
          break
        end
        local cycle = cycle_of(graph, start)
        links, visits = not yield(t, graph, cycle) and links_of(t, graph, cycle), #graph.order
      end
      if links then
        local victim = choose(t, links)
        if not victim then return nil, false end -- tasks that depend on each other: not ours
        local incident = sacrifice(t, links, victim, 'deadlock', visits)
        if victim == start then return incident, false end
      end
      locks.wake(t)
    end
    zput(t, s.keys.unchecked, start, int(t.ms))
    t.has_locks_left = true
    return nil, true
  end

  -- A shared holder wants the resource for itself while another already waits for the same:
  -- neither could ever go on, so the second is the victim. Nil where it is not so.
  function waits.second_upgrade(t, w)
    for i = 1, #w.set do
      local l = locks.resource(t, w.set[i])
      if locks.needs(l, w.owner, w.mode) == 'upgrade' then
        for owner, raw in pairs(l.raw) do
          local other = owner ~= w.owner and string.sub(raw, 1, 1) ~= 'x' and locks.wait_of(t, owner)
          if other and locks.is_waiting(other) and other.mode == 'x' and string.find(',' .. other.names .. ',',
            ',' .. l.name .. ',', 1, true) then
            local graph = waits.explore(t, { w.owner }, WAITS_VISITS)
            return sacrifice(t, links_of(t, graph, { w.owner, owner }), w.owner, 'upgrade', #graph.order)
          end
        end
      end
    end
    return nil
  end

  -- Whether an owner can close a cycle by beginning to wait: it holds something, it is a
  -- claim, whose task others may wait for, or it took up a request.
  function waits.can_close(t, owner)
    local keys = locks.of(t).keys
    return locks.claim_of(owner) ~= nil or call('HLEN', keys.owner .. owner) > 0
      or call('HEXISTS', keys.waits, owner .. '\nq') == 1
  end

  -- A waiter that was not served for two seconds is not overtaken from behind any more. Who queues
  -- behind it waits for it from here, so this may close a cycle too.
  function waits.reserve(t, w)
    w.state = 'r'
    locks.keep_wait(t, w)
    -- With patterns about, those behind it may stand in other queues.
    if locks.of(t).has_globs then return (waits.check(t, w.owner)) end
    if #w.set == 1 and w.mode == 's' then return nil end
    for i = 1, #w.set do
      local key = locks.of(t).keys.queue .. w.set[i]
      if call('ZCOUNT', key, '(' .. int(w.score), '+inf') > 0 then
        if #w.set > 1 then return (waits.check(t, w.owner)) end
        local behind = call('ZRANGEBYSCORE', key, '(' .. int(w.score), '+inf', 'LIMIT', 0, LOCK_QUEUE_SEEN)
        local raws = call('HMGET', locks.of(t).keys.waits, unpack_values(behind))
        for k = 1, #behind do
          local mode = raws[k] and string.sub(raws[k], 3, 3) or 'x'
          if mode ~= 'x' and mode ~= w.mode then return (waits.check(t, w.owner)) end
        end
      end
    end
    return nil
  end

  -- A claim waits for a task, its slot given free. As `check` answers.
  function waits.park(t, owner, board_name, id, priority, bell)
    local known = waits.begin(t, owner)
    known.task = { board = board_name, id = id, priority = tonumber(priority), since = t.now, bell = bell }
    hput(t, locks.of(t).keys.waits, owner .. '\nt', board_name .. ':' .. id .. '|' .. priority .. '|' .. int(t.now)
      .. '|' .. bell)
    return waits.check(t, owner)
  end

  function waits.unpark(t, owner)
    waits.begin(t, owner).task = false
    if locks.is_waiting(locks.wait_of(t, owner)) then locks.check_later(t, owner) end
    hput(t, locks.of(t).keys.waits, owner .. '\nt', false)
  end

  -- An owner waits for the answer to a request, until `deadline_ms` at most. As `check`
  -- answers. What it writes has to be looked at before, by `waits.touch(t, owner)`; the
  -- function ends with `locks.close(t)`, or with `locks.wake(t)` and `locks.flush(t)` before
  -- its own end.
  function waits.request(t, owner, message_id, receiver, deadline_ms, bell)
    local s, known = locks.of(t), waits.begin(t, owner)
    if #known.requests >= WAITS_REQUESTS_MOST then return nil, false end
    if #known.requests == 0 then known.requests = {} end
    table.insert(known.requests, { id = message_id, receiver = receiver, since = t.now, bell = bell or '' })
    keep_requests(t, owner, known.requests)
    hput(t, s.keys.requests, message_id, owner .. '|')
    zput(t, s.keys.waits_due, owner .. '\nr\n' .. message_id, int(deadline_ms))
    return waits.check(t, owner)
  end

  -- An owner took up a request that somebody may wait for: from here the wait is for it.
  function waits.taken(t, message_id, taker)
    local s = locks.of(t)
    local asker = match(call('HGET', s.keys.requests, message_id) or '', '^([^|]*)|')
    if not asker then return end
    hput(t, s.keys.requests, message_id, asker .. '|' .. taker)
    hput(t, s.keys.waits, taker .. '\nq', '1')
    zput(t, s.keys.waits_due, taker .. '\nq', int(t.ms + KARMA_KEPT_MS))
    s.takers[message_id] = taker
    waits.check(t, asker)
    locks.wake(t)
    locks.flush(t)
  end

  -- The request was answered, expired, or is not waited for any more.
  function waits.answered(t, message_id)
    local s = locks.of(t)
    local asker = match(call('HGET', s.keys.requests, message_id) or '', '^([^|]*)|')
    if not asker then return end
    local known, left = waits.of(t, asker), {}
    for _, r in ipairs(known.requests) do
      if r.id ~= message_id then left[#left + 1] = r end
    end
    known.requests = left
    keep_requests(t, asker, left)
    hput(t, s.keys.requests, message_id, false)
    zput(t, s.keys.waits_due, asker .. '\nr\n' .. message_id, false)
  end

  -- What became of a wait whose time is over: its letter says which.
  function waits.lapse(t, member)
    local s = locks.of(t)
    local owner, letter, id = match(member, '^([^\n]*)\n?(%a?)\n?(.*)$')
    if letter == '' then
      local w = locks.wait_of(t, owner)
      if w then
        locks.end_wait(t, w, 'lapsed')
      else
        zput(t, s.keys.waits_due, member, false)
      end
    elseif letter == 'r' then
      zput(t, s.keys.waits_due, member, false)
      waits.answered(t, id)
    else
      zput(t, s.keys.waits_due, member, false)
      hput(t, s.keys.waits, owner .. '\n' .. letter, false)
    end
  end

  -- A victim's time to give back what the cycle needs is over.
  function waits.force(t, member)
    zput(t, locks.of(t).keys.forced, member, false)
    local name, owner, fence = match(member, '^([^\n]*)\n([^\n]*)\n(%d+)$')
    local l = locks.resource(t, name)
    local h = locks.holding(l, owner)
    if not h or tonumber(fence) < tonumber(h.first) or tonumber(fence) > tonumber(h.fence) then return end
    fact(t, 'resource:forced', '', name, 'forced', owner, int(take_fences(t, 1)), h.agent .. '|deadlock')
    locks.drop(t, l, owner, 'forced')
  end

  function waits.add_edges(edges, node)
    for _, groups in ipairs(node.waits) do
      for _, group in ipairs(groups) do
        for _, member in ipairs(group) do
          edges[#edges + 1] = { (string.gsub(node.name, '^\t', '')), member.what,
            (string.gsub(member.owner, '^\t', '')), group.any and 1 or 0 }
        end
      end
    end
  end

  -- The incident whose victim an owner is, and that it was not told of yet; nil otherwise.
  function waits.verdict(t, owner)
    return call('HGET', locks.of(t).keys.waits, owner .. '\nv') or nil
  end

  function waits.told(t, owner)
    local keys = locks.of(t).keys
    hput(t, keys.waits, owner .. '\nv', false)
    zput(t, keys.waits_due, owner .. '\nv', false)
  end
end
