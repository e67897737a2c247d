-- Instances that end and agents that go: giving back what they had.
-- include roster, hold, activity

-- Ends an instance: from here it is not live, and `give_back` works off what it held.
-- `how` is l (lost) or r (released).
local function end_instance(t, roster, name, how)
  local instance = roster.instances[name]
  if instance.mark ~= '' then return end
  instance.mark, instance.is_changed = how .. '0', true
  roster.live = roster.live - 1
  local member = roster.id .. '/' .. name
  zput(t, heartbeats_key(t.prefix), member, false)
  local boards = call('ZRANGE', boards_key(t.prefix), 0, 99)
  for i = 1, #boards do
    local keys = board_keys(t.prefix, boards[i])
    call('ZREM', keys.waiters, member)
  end
end

-- Gives back the tasks that an ended instance holds, at most `roster.left` of them, and
-- moves its mark on; the instance is forgotten once there are no more.
local function give_back(t, roster, name)
  local seen_most = 1000
  local instance, holder = roster.instances[name], roster.id
  local how, from = match(instance.mark, '^(%a)(%d+)$')
  local following
  if name ~= '' then holder = holder .. '/' .. name end
  for _, key in ipairs({ held_key(t.prefix, roster.id), parked_key(t.prefix, roster.id) }) do
    local rows = call('ZRANGEBYSCORE', key, '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, seen_most)
    local cut = #rows == seen_most * 2 and tonumber(rows[#rows]) or nil
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
          flag(r, 'V')
          release(b, id, r, turned_down.by_holder(b, id, r))
        end
      end
    end
    if cut and (not following or cut < following) then following = cut end
  end
  if following then
    instance.mark, instance.is_changed = how .. int(following), true
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

-- Keeps the agent among those that dispatches choose from, or takes it out; written only where
-- that changes, as a change has the list read anew.
local function list_alone(t, id, is_listed)
  local key = agents_alone_key(t.prefix)
  local is_there = call('ZSCORE', key, id) ~= false
  if is_listed and not is_there then
    zput(t, key, id, call('ZSCORE', agents_known_key(t.prefix), id) or t.ms)
  elseif is_there and not is_listed then
    zput(t, key, id, false)
  end
end

-- Keeps the agent where discovery looks for each of its capabilities. This is read and written
-- below other writes: where a key is somebody else's, the agent counts as not kept, and
-- discovery looks at all agents.
local function index_agent(t, roster, wanted)
  if roster.indexed == wanted then return end
  local key, id = capability_keys(t.prefix, '').all, roster.id
  local score = call('ZSCORE', agents_known_key(t.prefix), id) or t.ms
  local before, is_kept = ',' .. (roster.indexed or '') .. ',', wanted ~= nil
  for name in gmatch(wanted or '', '[^,]+') do
    local answer = redis.pcall('ZADD', capability_keys(t.prefix, name).one, score, id)
    if type(answer) == 'table' then is_kept = false end
  end
  for name in gmatch(before, '[^,]+') do
    if not wanted or not string.find(',' .. wanted .. ',', ',' .. name .. ',', 1, true) then
      redis.pcall('ZREM', capability_keys(t.prefix, name).one, id)
    end
  end
  local answer = is_kept and redis.pcall('ZADD', key, score, id) or redis.pcall('ZREM', key, id)
  roster.indexed = is_kept and type(answer) ~= 'table' and wanted or nil
  hput(t, roster.key, 'indexed', roster.indexed or false)
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
    activity.gone(t, id, why)
  end
  roster.status = roster.gone and 'inactive' or roster.declared
  local is_working = roster.status == 'active' or roster.status == 'busy'
  local claim_limit, ready_limit, due = 0, 0, t.ms + roster.interval
  for _, instance in pairs(roster.instances) do
    if instance.mark == '' then
      claim_limit = claim_limit + instance.run + instance.ahead
      ready_limit = ready_limit + instance.run
      due = math.min(due, instance.beat + ROSTER.lost_after * instance.interval)
    end
  end
  if roster.live == 0 then claim_limit, ready_limit = roster.max_concurrent, roster.max_concurrent end
  -- What is given back now may be offered to this agent's other instances.
  local known = load_agent(t, id)
  local is_alone = roster.live > 0 and roster.instances[''] and roster.instances[''].mark == ''
  if is_alone and (roster.is_news or not known or known.status ~= roster.status) and is_working then
    t.bells[dispatch_bell(t.prefix)] = '' -- what waits for such an agent may be given to it
  end
  if known then
    known.status, known.limit, known.ready = roster.gone or roster.status, claim_limit, ready_limit
  end
  for name, instance in pairs(roster.instances) do
    if instance.mark ~= '' then give_back(t, roster, name) end
  end
  if not is_working then give_reserved(t, roster) end
  for name, instance in pairs(roster.instances) do
    if instance.is_changed then
      hput(t, instances_key(t.prefix, id), name, concat({ instance.run, instance.ahead,
        instance.since, instance.interval, instance.pid, instance.mark, instance.host }, '|'))
    end
  end
  hput(t, key, 'status', roster.status)
  hput(t, key, 'declared', roster.declared)
  hput(t, key, 'gone', roster.gone or false)
  hput(t, key, 'gone_since', roster.gone and roster.gone_since or false)
  hput(t, key, 'claim_limit', claim_limit)
  hput(t, key, 'ready_limit', ready_limit)
  hput(t, key, 'alone', is_alone and '1' or false)
  hput(t, key, 'health_score', format('%.3f', health_of(t, roster)))
  if roster.beat > 0 then hput(t, key, 'last_heartbeat', iso(roster.beat)) end
  call(is_working and 'SADD' or 'SREM', agents_active_key(t.prefix), id)
  list_alone(t, id, is_alone and roster.status == 'active')
  index_agent(t, roster, match(roster.profile, '^[^;]*;([^;]*)') or '')
  if roster.unfinished then
    due = t.ms
  elseif roster.gone then
    due = roster.gone_since + ROSTER.gone_kept_ms
  elseif due <= t.ms then
    due = t.ms + 1000 -- overdue within a grace
  end
  zput(t, agents_due_key(t.prefix), id, due)
end

-- Removes all traces of an agent that holds nothing any more.
local function forget_agent(t, roster)
  local id = roster.id
  activity.gone(t, id, 'forgotten')
  call('SREM', agents_active_key(t.prefix), id)
  index_agent(t, roster, nil)
  call('DEL', roster.key, instances_key(t.prefix, id))
  chooser.forget(t, id)
  t.hashes[roster.key], t.hashes[instances_key(t.prefix, id)] = nil, nil
  zput(t, agents_known_key(t.prefix), id, false)
  zput(t, agents_alone_key(t.prefix), id, false)
  zput(t, agents_due_key(t.prefix), id, false)
  fact(t, 'agent:deregistered', '', id, 'deregistered', id, 0)
end
