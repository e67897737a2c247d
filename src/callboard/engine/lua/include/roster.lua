-- The roster: which instances of an agent are live, how healthy it is, and giving back
-- what those that went away had.
-- include hold

-- An instance is a line in `agents:instances:{agent}`:
--
--   max_concurrent|prefetch|since|interval|pid|mark|host
--
-- The instance '' stands for an agent that runs without instances and heartbeats by its
-- name. A mark says that it ended and that what it held is being given back: l (lost) or
-- r (released), and the fence up to which that is done.
local INSTANCE = '^(%d+)|(%d+)|(%d+)|(%d+)|(%d*)|(%a?%d*)|(.*)$'
local LOST_AFTER = 3 -- intervals without a heartbeat
local GIVEN_MOST, HELD_SEEN = 200, 1000
local GONE_KEPT_MS = 86400000 -- then an agent without instances is forgotten

-- The agent with its instances and their last heartbeats; nil where there is none.
local function read_roster(t, id)
  local key = agent_key(t.prefix, id)
  local h = call('HMGET', key, 'profile', 'status', 'declared', 'gone', 'gone_since',
    'max_concurrent', 'interval_ms', 'load_metrics', 'lapsed', 'revision')
  if not h[1] then return nil end
  local roster = {
    id = id, key = key, profile = h[1], status = h[2], declared = h[3] or h[2], gone = h[4],
    gone_since = tonumber(h[5]) or 0, max_concurrent = tonumber(h[6]) or 100,
    interval = tonumber(h[7]) or 10000, load = h[8] or '{}', lapsed = tonumber(h[9]) or 0,
    revision = tonumber(h[10]) or 0, instances = {}, live = 0, beat = 0, left = GIVEN_MOST,
  }
  local raw = call('HGETALL', instances_key(t.prefix, id))
  if #raw == 0 then return roster end
  local members = {}
  for i = 1, #raw, 2 do members[#members + 1] = id .. '/' .. raw[i] end
  local beats = call('ZMSCORE', heartbeats_key(t.prefix), unpack_values(members))
  for i = 1, #raw, 2 do
    local run, ahead, since, interval, pid, mark, host = match(raw[i + 1], INSTANCE)
    local last = tonumber(beats[(i + 1) / 2] or since)
    roster.instances[raw[i]] = {
      run = tonumber(run), ahead = tonumber(ahead), since = since, interval = tonumber(interval),
      pid = pid, mark = mark, host = host, beat = last,
    }
    if last > roster.beat then roster.beat = last end
    if mark == '' then roster.live = roster.live + 1 end
  end
  return roster
end

-- The share of the time that an instance may be silent that has passed: 0 within its
-- interval, 1 where it counts as lost. After a gap everybody has the grace that leases
-- have, and an interval more, since only then each had the time to be heard.
local function silence(t, instance)
  local last, interval = instance.beat, instance.interval
  if last + LOST_AFTER * interval >= t.grace_from and t.ms < t.grace_until + interval then
    return 0
  end
  local share = (t.ms - last - interval) / ((LOST_AFTER - 1) * interval)
  return share < 0 and 0 or share > 1 and 1 or share
end

-- 1 less what speaks against the agent; docs/reference/agents.md has the table.
local function health_of(t, roster)
  if roster.live == 0 then return 0 end
  local missed, busiest, failing = 0, 0, 0
  for _, instance in pairs(roster.instances) do
    if instance.mark == '' then missed = missed + silence(t, instance) end
  end
  for name, value in gmatch(roster.load, '"([^"]+)":([^,}]+)') do
    value = tonumber(value) or 0
    if name == 'cpu' or name == 'memory' or name == 'load' then
      if value > busiest then busiest = value end
    elseif name == 'error_rate' then
      failing = value < 0 and 0 or value > 1 and 1 or value
    end
  end
  local declared = ({ error = 0.5, maintenance = 0.2, busy = 0.1 })[roster.declared] or 0
  local loaded = busiest > 0.8 and 0.3 or busiest > 0.6 and 0.1 or 0
  local lapsed = roster.lapsed > 3 and 0.3 or roster.lapsed * 0.1
  local health = 1 - 0.5 * missed / roster.live - declared - loaded - 0.3 * failing - lapsed
  return health < 0 and 0 or health
end

-- Takes `name=value` pairs into the reported load, over the values of the same names.
local function merge_load(t, roster, pairs_text)
  if pairs_text == '' then return end
  local values, names, parts = {}, {}, {}
  local function take(name, value)
    if not values[name] then names[#names + 1] = name end
    values[name] = value
  end
  for name, value in gmatch(roster.load, '"([^"]+)":([^,}]+)') do take(name, value) end
  for name, value in gmatch(pairs_text, '([^=,]+)=([^,]+)') do take(name, value) end
  for i = 1, math.min(#names, 64) do parts[i] = '"' .. names[i] .. '":' .. values[names[i]] end
  roster.load = '{' .. concat(parts, ',') .. '}'
  hput(t, roster.key, 'load_metrics', roster.load)
end

-- Ends an instance: from here it is not live, and `give_back` works off what it held.
-- `how` is l (lost) or r (released).
local function end_instance(t, roster, name, how)
  local instance = roster.instances[name]
  if instance.mark ~= '' then return end
  instance.mark = how .. '0'
  roster.live = roster.live - 1
  local member = roster.id .. '/' .. name
  zput(t, heartbeats_key(t.prefix), member, false)
  local boards = call('ZRANGE', boards_key(t.prefix), 0, 99)
  for i = 1, #boards do
    local keys = board_keys(t.prefix, boards[i])
    if call('ZREM', keys.waiters, member) == 1 then call('HDEL', keys.wants, member) end
  end
end

-- Gives back the tasks that an ended instance holds, at most `roster.left` of them, and
-- moves its mark on; the instance is forgotten once there are no more.
local function give_back(t, roster, name)
  local instance, holder = roster.instances[name], roster.id
  local how, from = match(instance.mark, '^(%a)(%d+)$')
  local following
  if name ~= '' then holder = holder .. '/' .. name end
  for _, key in ipairs({ held_key(t.prefix, roster.id), parked_key(t.prefix, roster.id) }) do
    local rows = call('ZRANGEBYSCORE', key, '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, HELD_SEEN)
    local cut = #rows == HELD_SEEN * 2 and tonumber(rows[#rows]) or nil
    local ids = {}
    for i = 1, #rows, 2 do
      local board_name, id = match(rows[i], '^([^:]*):(.*)$')
      ids[board_name] = ids[board_name] or {}
      table.insert(ids[board_name], id)
    end
    for board_name, list in pairs(ids) do load_records(board(t, board_name), list) end
    for i = 1, #rows, 2 do
      local board_name, id = match(rows[i], '^([^:]*):(.*)$')
      local b = board(t, board_name)
      local r = b.records[id]
      if r and HELD[r[STATUS]] and r[HOLDER] == holder then
        if roster.left == 0 then
          cut = tonumber(rows[i + 1]) - 1
          break
        end
        roster.left = roster.left - 1
        roster.given = (roster.given or 0) + 1
        if how == 'l' then
          lose(b, id, r)
        else
          leave(b, id, r)
          release(b, id, r, 0)
        end
      end
    end
    if cut and (not following or cut < following) then following = cut end
  end
  if following then
    instance.mark = how .. int(following)
    roster.unfinished = true
  else
    roster.instances[name] = nil
    hput(t, instances_key(t.prefix, roster.id), name, false)
  end
end

-- Gives the agent's reservations back to their lanes, at most `roster.left` of them.
local function give_reserved(t, roster)
  local key = reserved_key(t.prefix, roster.id)
  local rows = call('ZRANGE', key, 0, roster.left)
  if #rows > roster.left then
    rows[#rows] = nil
    roster.unfinished = true
  end
  for i = 1, #rows do
    local board_name, id = match(rows[i], '^([^:]*):(.*)$')
    local b = board(t, board_name)
    local r = load_record(b, id)
    if r and r[STATUS] == 'a' and r[HOLDER] == roster.id then
      leave(b, id, r)
      unflag(r, 'H')
      make_ready(b, id, r)
      save(b, id)
    else
      zput(t, key, rows[i], false)
    end
  end
  roster.left = roster.left - #rows
  roster.given = (roster.given or 0) + #rows
end

-- Settles what follows from the instances as they are now: status, limits, health, the
-- active set, what has to be given back, and when to look again. `why` is the agent's
-- state should it have no live instance: lost, left or deregistered.
local function settle_agent(t, roster, why)
  local id, key = roster.id, roster.key
  if roster.live > 0 then
    roster.gone = nil
  elseif not roster.gone or why == 'deregistered' then
    roster.gone, roster.gone_since = why, t.ms
    if why == 'lost' then fact(t, 'agent:lost', '', id, 'inactive', id, 0) end
  end
  local was = roster.status
  roster.status = roster.gone and 'inactive' or roster.declared
  local is_working = roster.status == 'active' or roster.status == 'busy'
  local known = load_agent(t, id)
  if known then known.status = roster.gone or roster.status end
  local claim_limit, ready_limit, due = 0, 0, t.ms + roster.interval
  for name, instance in pairs(roster.instances) do
    if instance.mark ~= '' then
      give_back(t, roster, name)
    else
      claim_limit = claim_limit + instance.run + instance.ahead
      ready_limit = ready_limit + instance.run
      due = math.min(due, instance.beat + LOST_AFTER * instance.interval)
    end
  end
  if roster.live == 0 then claim_limit, ready_limit = roster.max_concurrent, roster.max_concurrent end
  if not is_working then give_reserved(t, roster) end
  for name, instance in pairs(roster.instances) do
    hput(t, instances_key(t.prefix, id), name, concat({ instance.run, instance.ahead, instance.since,
      instance.interval, instance.pid, instance.mark, instance.host }, '|'))
  end
  hput(t, key, 'status', roster.status)
  hput(t, key, 'declared', roster.declared)
  hput(t, key, 'gone', roster.gone or false)
  hput(t, key, 'gone_since', roster.gone and roster.gone_since or false)
  hput(t, key, 'claim_limit', claim_limit)
  hput(t, key, 'ready_limit', ready_limit)
  hput(t, key, 'health_score', format('%.3f', health_of(t, roster)))
  if roster.beat > 0 then hput(t, key, 'last_heartbeat', iso(roster.beat)) end
  call(is_working and 'SADD' or 'SREM', agents_active_key(t.prefix), id)
  if roster.unfinished then
    due = t.ms
  elseif roster.gone then
    due = roster.gone_since + GONE_KEPT_MS
  elseif due <= t.ms then
    due = t.ms + 1000 -- overdue within a grace
  end
  zput(t, agents_due_key(t.prefix), id, due)
  return was ~= roster.status
end

-- Removes all traces of an agent that holds nothing any more.
local function forget_agent(t, roster)
  local id = roster.id
  call('SREM', agents_active_key(t.prefix), id)
  call('DEL', roster.key, instances_key(t.prefix, id))
  t.hashes[roster.key], t.hashes[instances_key(t.prefix, id)] = nil, nil
  zput(t, agents_known_key(t.prefix), id, false)
  zput(t, agents_due_key(t.prefix), id, false)
  fact(t, 'agent:deregistered', '', id, 'deregistered', id, 0)
end
