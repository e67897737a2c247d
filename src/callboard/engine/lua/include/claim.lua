-- Choosing tasks for a claimer, best first, and granting them.
-- include lose

local HEADS_SEEN, HEADS_MOST = 256, 4000
local REPLY_BYTES = 4194304
local REQUEST_KEPT_MS = 600000
local STEAL_VICTIMS, STEAL_MOST, STEAL_SEEN = 3, 100, 300

-- Why this agent may not claim now, or nil. Reads only.
local function claim_refusal(t, b, agent_id)
  local agent = load_agent(t, agent_id)
  if not agent then return { 'agent_not_found' } end
  if not takes_work(agent) then return { 'agent_draining', agent.status } end
  if b.paused then return { 'paused' } end
  return nil
end

-- Housekeeping that a claim does for its board, a bounded piece at a time.
local function sweep_for_claim(b)
  local done = expire_leases(b, CLAIM_SWEEPS) + promote(b, CLAIM_PROMOTES)
  done = done + expire_deadlines(b, CLAIM_PROMOTES)
  if done > 0 then
    cascade(b.t)
    settle(b.t)
  end
end

-- The agent's own reservations on this board.
local function take_reserved(b, agent, want, taken)
  if agent.reserved <= 0 then return end
  local prefix = b.name .. ':'
  local rows = call('ZRANGE', reserved_key(b.t.prefix, agent.id), 0, want + 99)
  for i = 1, #rows do
    if #taken >= want then return end
    if string.sub(rows[i], 1, #prefix) == prefix then
      local id = string.sub(rows[i], #prefix + 1)
      local r = load_record(b, id)
      if r and r[STATUS] == 'a' and r[HOLDER] == agent.id and not kind_paused(b, r[LANE]) then
        taken[#taken + 1] = { id = id, r = r, score = r[SCORE] }
      end
    end
  end
end

-- Inserts a lane's new head where it belongs in the rest of the walk.
local function reinsert(heads, at, lane, score)
  local place = at
  while heads[place] and heads[place].score <= score do place = place + 1 end -- bounded by heads
  table.insert(heads, place, { lane = lane, score = score })
end

-- The lanes that fit, best head first.
local function fitting_heads(b, agent, want)
  local heads, from, step = {}, 0, want < 15 and 16 or want + 1
  -- Past HEADS_SEEN only while nothing fits: else lanes that nobody serves would hide
  -- the others for ever.
  while from < (#heads == 0 and HEADS_MOST or HEADS_SEEN) and #heads <= want do -- bounded by HEADS_MOST
    local rows = call('ZRANGE', b.keys.heads, from, from + step - 1, 'WITHSCORES')
    for i = 1, #rows, 2 do
      if serves(agent, rows[i]) and not kind_paused(b, rows[i]) then
        heads[#heads + 1] = { lane = rows[i], score = tonumber(rows[i + 1]) }
      end
    end
    if #rows < step * 2 then break end
    from, step = from + step, step * 2
  end
  return heads
end

-- Walks the heads and takes the best tasks over all lanes that fit, in strict order.
local function take_lanes(b, agent, want, taken)
  local heads = fitting_heads(b, agent, want)
  local positions, at = {}, 1
  while at <= #heads and #taken < want do -- bounded by want
    local lane, next_head = heads[at].lane, heads[at + 1]
    local from = positions[lane] or 0
    local most = want - #taken + 1
    if next_head and most > 4 and (from > 0 or #heads > 4) then most = 4 end
    local rows = call('ZRANGE', b.keys.lane .. lane, from, from + most - 1, 'WITHSCORES')
    local i = 1
    while i < #rows and #taken < want do -- bounded by rows
      local score = tonumber(rows[i + 1])
      if next_head and score > next_head.score then break end
      taken[#taken + 1] = { id = rows[i], score = rows[i + 1], lane = lane }
      i = i + 2
    end
    from = from + (i - 1) / 2
    positions[lane] = from
    at = at + 1
    if #taken < want then
      if i < #rows then
        reinsert(heads, at, lane, tonumber(rows[i + 1]))
      elseif #rows == most * 2 then
        local head = call('ZRANGE', b.keys.lane .. lane, from, from, 'WITHSCORES')
        if head[1] then reinsert(heads, at, lane, tonumber(head[2])) end
      end
    end
  end
end

-- From at most three most loaded agents, half of the unstarted reservations that fit.
local function steal(b, agent, want, taken)
  local ids = call('ZRANGE', b.keys.reserved, 0, STEAL_SEEN - 1)
  load_records(b, ids)
  local by_agent, victims = {}, {}
  for i = 1, #ids do
    local r = b.records[ids[i]]
    if r and r[STATUS] == 'a' and r[HOLDER] ~= agent.id and serves(agent, r[LANE])
      and not kind_paused(b, r[LANE]) then
      local list = by_agent[r[HOLDER]]
      if not list then
        list = { agent = r[HOLDER] }
        by_agent[r[HOLDER]] = list
        victims[#victims + 1] = list
      end
      list[#list + 1] = ids[i]
    end
  end
  table.sort(victims, function(x, y) return #x > #y or (#x == #y and x.agent < y.agent) end)
  local most = want < STEAL_MOST and want or STEAL_MOST
  for v = 1, math.min(#victims, STEAL_VICTIMS) do
    local victim, count = victims[v], 0
    for i = #victim, #victim - floor(#victim / 2) + 1, -1 do
      if #taken >= most then break end
      local r = b.records[victim[i]]
      taken[#taken + 1] = { id = victim[i], r = r, score = r[SCORE] }
      count = count + 1
    end
    if count > 0 then
      fact(b.t, 'workstealing:request', b.name, '', 'stolen', agent.id, 0, victim.agent .. '|' .. count)
    end
  end
end

-- The bodies, and the large payloads kept beside them; cut where the reply grows too big.
local function load_bodies(b, taken)
  local ids = {}
  for i = 1, #taken do ids[i] = taken[i].id end
  local bodies, bytes = call('HMGET', b.keys.tasks, unpack_values(ids)), 0
  for i = 1, #taken do
    local item = taken[i]
    item.body, item.payload = bodies[i] or '', ''
    if has(item.r, 'L') then item.payload = call('GET', b.keys.payload .. item.id) or '' end
    bytes = bytes + #item.body + #item.payload
    if bytes > REPLY_BYTES and i > 1 then
      for j = i, #taken do taken[j] = nil end
      break
    end
  end
end

-- Five values a task: id, deadline, record, body, payload.
local function append_grant(reply, id, deadline, r, body, payload)
  local n = #reply
  reply[n + 1], reply[n + 2] = id, deadline
  reply[n + 3], reply[n + 4], reply[n + 5] = concat(r, '|', 1, 16), body, payload
end

-- Grants tasks that nobody holds: a fence, a lease, a place among the agent's tasks.
-- The first `started` of them begin at once; the others were claimed ahead.
local function grant(b, agent, instance, taken, started, lease_ms, reply)
  local t, keys = b.t, b.keys
  local first = take_fences(t, #taken)
  local holder = instance == '' and agent.id or agent.id .. '/' .. instance
  local held = held_key(t.prefix, agent.id)
  local since = tostring(t.ms)
  for i = 1, #taken do
    local item = taken[i]
    local id, r = item.id, item.r
    leave(b, id, r)
    local fence = int(first + i - 1)
    r[STATUS] = i <= started and 'c' or 'k'
    r[ATTEMPT], r[FENCE], r[HOLDER] = tostring(tonumber(r[ATTEMPT]) + 1), fence, holder
    r[SCORE], r[SINCE] = item.score, since
    local lease = r[LEASE] ~= '' and tonumber(r[LEASE]) or lease_ms
    if r[TIMEOUT] ~= '' and tonumber(r[TIMEOUT]) < lease then lease = tonumber(r[TIMEOUT]) end
    local deadline = t.ms + lease
    zput(t, keys.leases, id, deadline)
    zput(t, held, b.name .. ':' .. id, fence)
    save(b, id)
    fact(t, 'task:claimed', b.name, id, 'claimed', holder, fence, r[ATTEMPT])
    append_grant(reply, id, deadline, r, item.body, item.payload)
  end
  agent.held = agent.held + #taken
  return first
end

-- Tasks that an earlier call with this request id granted and that are still held under
-- its fences; the fences of the others are listed as lost. Nil where it is not known.
local function repeat_claim(t, request)
  local memory = request ~= '' and call('GET', request_key(t.prefix, request))
  if not memory then return nil end
  local name, agent_id, first, count = match(memory, '^([^|]*)|([^|]*)|(%d+)|(%d+)$')
  local b, prefix = board(t, name), name .. ':'
  first, count = tonumber(first), tonumber(count)
  local rows = call('ZRANGEBYSCORE', held_key(t.prefix, agent_id), first, first + count - 1, 'WITHSCORES')
  local taken, seen = {}, {}
  for i = 1, #rows, 2 do
    if string.sub(rows[i], 1, #prefix) == prefix then
      local id = string.sub(rows[i], #prefix + 1)
      local r = load_record(b, id)
      if r and HELD[r[STATUS]] and tonumber(r[FENCE]) == tonumber(rows[i + 1]) then
        taken[#taken + 1] = { id = id, r = r }
        seen[tonumber(rows[i + 1])] = true
      end
    end
  end
  local lost = {}
  for fence = first, first + count - 1 do
    if not seen[fence] then lost[#lost + 1] = int(fence) end
  end
  local reply = { 'replayed', concat(lost, ',') }
  if #taken > 0 then load_bodies(b, taken) end
  for i = 1, #taken do
    local deadline = call('ZSCORE', b.keys.leases, taken[i].id) or '0'
    append_grant(reply, taken[i].id, deadline, taken[i].r, taken[i].body, taken[i].payload)
  end
  return reply
end

-- Only a free slot makes an instance wait: a full one would keep work from idle ones.
local function wait_for_bell(b, agent, instance, wants, wait_ms)
  local member = agent.id .. '/' .. instance
  if wants > 0 and wait_ms > 0 then
    zput(b.t, b.keys.waiters, member, b.t.ms + wait_ms)
    hput(b.t, b.keys.wants, member, wants)
  elseif #waiters_of(b) > 0 then
    zput(b.t, b.keys.waiters, member, false)
    hput(b.t, b.keys.wants, member, false)
  end
end

-- The claim itself, after its refusals: what waits for this agent, in order.
-- Answers `ok` and five values a task, or `empty`, or `agent_full`.
local function claim(b, agent, instance, request, want, started, wait_ms, lease_ms)
  local t = b.t
  beat(t, agent.id, instance)
  sweep_for_claim(b)
  local room = agent.limit - agent.held
  local most = want < room and want or room
  local taken = {}
  if most > 0 then
    take_reserved(b, agent, most, taken)
    if #taken < most then take_lanes(b, agent, most, taken) end
    if #taken == 0 then steal(b, agent, most, taken) end
  end
  local reply = { 'ok', '' }
  if #taken > 0 then
    local ids = {}
    for i = 1, #taken do ids[i] = taken[i].id end
    load_records(b, ids)
    for i = 1, #taken do taken[i].r = b.records[taken[i].id] end
    load_bodies(b, taken)
    local first = grant(b, agent, instance, taken, started, lease_ms, reply)
    if request ~= '' then
      call('SET', request_key(t.prefix, request), b.name .. '|' .. agent.id .. '|' .. int(first)
        .. '|' .. #taken, 'PX', REQUEST_KEPT_MS)
    end
  elseif want > 0 then
    reply[1] = room <= 0 and 'agent_full' or 'empty'
  end
  wait_for_bell(b, agent, instance, started - #taken, wait_ms)
  return reply
end
