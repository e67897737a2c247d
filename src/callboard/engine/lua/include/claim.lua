-- Choosing tasks for a claimer, best first, and granting them.
-- include lose

local HEADS_SEEN, HEADS_MOST = 256, 4000
local SWEEP_PAUSE_US = 20000
local REPLY_BYTES = 4194304
local REQUEST_KEPT_MS = 600000
local NOWHERE_KEPT_MS = 60000 -- waiters at a board that is not there
local RESERVED_PAGE, RESERVED_PAGES = 500, 10 -- reservations of an agent, on all boards
local STEAL_VICTIMS, STEAL_MOST, STEAL_SEEN = 3, 100, 300

-- Why this agent may not claim now, or nil. Reads only.
local function claim_refusal(t, b, agent_id)
  local agent = load_agent(t, agent_id)
  if not agent then return { 'agent_not_found' } end
  if agent.status == 'lost' or agent.status == 'left' then return { 'instance_unknown' } end
  if not takes_work(agent) then return { 'agent_draining', agent.status } end
  if b.paused then return { 'paused', b.closed and 'closed' or '' } end
  return nil
end

-- Housekeeping that a claim does for its board, a bounded piece at a time. By the engine's
-- own clock, claims within SWEEP_PAUSE_US of the last one that looked leave it out; when
-- that was is kept with the board's key names, and costs a look where it is forgotten.
local function sweep_for_claim(b)
  local t, keys = b.t, b.keys
  if t.is_real_time and keys.swept and t.now - keys.swept < SWEEP_PAUSE_US then return end
  keys.swept = t.now
  local done = flow.put_back_due(b, CLAIM_PROMOTES) + expire_deadlines(b, CLAIM_PROMOTES)
  done = done + expire_leases(b, CLAIM_SWEEPS) + promote(b, CLAIM_PROMOTES)
  if done > 0 then
    cascade(t)
    settle(t)
  end
end

-- What a claim has chosen so far: ids and scores in order, the lane each stands in (false for
-- a reservation), and the score of what each lane begins with once they are gone.
local function nothing_taken() return { ids = {}, scores = {}, lanes = {}, heads = {} } end

local function take(taken, id, score, lane)
  local n = #taken.ids + 1
  taken.ids[n], taken.scores[n], taken.lanes[n] = id, score, lane
end

-- The agent's own reservations on this board.
local function take_reserved(b, agent, want, started, taken)
  if agent.reserved <= 0 then return end
  local prefix = b.name .. ':'
  for page = 0, RESERVED_PAGES - 1 do
    local from = page * RESERVED_PAGE
    local rows = call('ZRANGE', reserved_key(b.t.prefix, agent.id), from, from + RESERVED_PAGE - 1)
    for i = 1, #rows do
      if #taken.ids >= want then return end
      if string.sub(rows[i], 1, #prefix) == prefix then
        local id = string.sub(rows[i], #prefix + 1)
        local r = load_record(b, id)
        if r and r[STATUS] == 'a' and r[HOLDER] == agent.id and not kind_paused(b, r[LANE])
          and flow.admit(b.t, r[LANE], #taken.ids >= started) then
          take(taken, id, r[SCORE], false)
          if b.t.gated then breakers.choose(b.t, r[LANE], 1) end
        end
      end
    end
    if #rows < RESERVED_PAGE then return end
  end
end

-- Inserts a lane's new head where it belongs in the rest of the walk.
local function reinsert(heads, at, lane, score)
  local place = at
  while heads[place] and heads[place].score <= score do place = place + 1 end -- bounded by heads
  table.insert(heads, place, { lane = lane, score = score })
end

-- Whether the lane's keys let any of its tasks be claimed now. Past the first few that are
-- held back, a lane stands aside for a while, behind the others of its heads.
local function lane_has_room(b, lane, key)
  local t = b.t
  if not t.limited then return true end
  local room, why, by = flow.room(t, lane)
  if room > 0 then return true end
  flow.note(t, why, by)
  if key then flow.stand_aside(b, key, lane, why, by) end
  return false
end

-- The lanes that fit, best head first: of the whole board, or of one fairness key. Also
-- answers how many lanes it saw, and how many of these their keys hold back.
local function fitting_heads(b, agent, want, key)
  local heads, from, step, seen, held_back = {}, 0, want < 15 and 16 or want + 1, 0, 0
  local is_held = b.t.limited or b.t.gated -- else each of the heads has a task to give
  -- Past HEADS_SEEN only while nothing fits: else lanes that nobody serves would hide
  -- the others for ever. A dispatch looks for many agents, so what fits one hides nothing of others.
  while from < ((#heads == 0 or agent.takes) and HEADS_MOST or HEADS_SEEN) and #heads <= want do -- bounded by HEADS_MOST
    local rows, is_aside = call('ZRANGE', key, from, from + step - 1, 'WITHSCORES'), false
    for i = 1, #rows, 2 do
      local lane, score = rows[i], tonumber(rows[i + 1])
      seen = seen + 1
      if score >= FLOW_ASIDE then -- it stands aside, and so do all behind it
        held_back, is_aside = held_back + 1, true
        break
      end
      if (agent.takes or serves)(agent, lane) and not kind_paused(b, lane) then
        if lane_has_room(b, lane, key) then
          heads[#heads + 1] = { lane = lane, score = score }
          if #heads > want and not is_held then break end
        else
          held_back = held_back + 1
        end
      end
    end
    if is_aside or #rows < step * 2 then break end
    from, step = from + step, step * 2
  end
  return heads, seen, held_back
end

-- Walks the heads, and takes the best tasks over all lanes that fit, in strict order, until
-- `want` are taken. A walk can be gone on with: `at` is the lane that it stopped in.
local function take_lanes(b, walk, want, started, taken)
  local t, heads, positions, at = b.t, walk.heads, walk.positions, walk.at
  while at <= #heads and #taken.ids < want do -- bounded by want
    local lane, next_head = heads[at].lane, heads[at + 1]
    local from, room = positions[lane] or 0, math.huge
    if t.limited and flow.of(lane) then
      local why, key
      room, why, key = flow.room(t, lane)
      if room <= 0 then
        flow.note(t, why, key)
      elseif flow.is_limited(t, lane) then -- nothing with limits is claimed ahead
        room = math.min(room, started - #taken.ids)
      end
    end
    if t.gated then room = math.min(room, breakers.room_of(t, lane)) end
    local most = want - #taken.ids + 1
    if next_head and most > 4 and (from > 0 or #heads > 4) then most = 4 end
    local rows = room > 0 and call('ZRANGE', b.keys.lane .. lane, from, from + most - 1, 'WITHSCORES') or {}
    local i, chosen = 1, 0
    while i < #rows and #taken.ids < want and chosen < room do -- bounded by rows
      if next_head and tonumber(rows[i + 1]) > next_head.score then break end
      take(taken, rows[i], rows[i + 1], lane)
      i, chosen = i + 2, chosen + 1
    end
    if chosen > 0 then flow.choose(t, lane, chosen) end
    if chosen > 0 and t.gated then breakers.choose(t, lane, chosen) end
    from = from + chosen
    positions[lane] = from
    local score = rows[i + 1] -- of the first that stays
    if not score and #rows == most * 2 then
      score = call('ZRANGE', b.keys.lane .. lane, from, from, 'WITHSCORES')[2]
    end
    if chosen > 0 then taken.heads[lane] = score or false end
    if #taken.ids < want then
      at = at + 1
      if chosen >= room then
        lane_has_room(b, lane) -- notes when it will have some again
      elseif score then
        reinsert(heads, at, lane, tonumber(score))
      end
    end
  end
  walk.at = at
end

local function new_walk(heads) return { heads = heads, positions = {}, at = 1 } end

-- The line of fairness keys within one claim: those it looked into, in order of their tags,
-- each with its walk; and, page by page, those it has not looked into.
local function next_key(b, line)
  local row = line.rows[line.row]
  if not row and #line.rows == line.page * 2 and line.from < HEADS_MOST then
    line.from, line.page = line.from + line.page, line.page * 2
    line.rows, line.row = call('ZRANGE', b.keys.fair, line.from, line.from + line.page - 1, 'WITHSCORES'), 1
    row = line.rows[1]
  end
  local tag = tonumber(line.rows[line.row + 1])
  if row and tag < FLOW_ASIDE then return row, tag end
end

local function stand_in_line(line, entry)
  local place = #line + 1
  while place > 1 and line[place - 1].tag > entry.tag do place = place - 1 end -- bounded by the line
  table.insert(line, place, entry)
end

-- Looks into the next key: it joins the line where the agent can have tasks of it now. One
-- that is idle leaves; one with nothing for this agent earns nothing by that, as no tag counts
-- that is below the virtual time.
local function look_into(b, agent, want, line, key, tag)
  line.row = line.row + 2
  local heads, seen, held_back = fitting_heads(b, agent, want, b.keys.fair_heads .. key)
  if #heads > 0 then
    line.is_first = false
    return stand_in_line(line, { key = key, tag = math.max(tag, b.virtual), walk = new_walk(heads) })
  end
  if seen > 0 then
    line.is_first = false
    if seen == held_back then flow.stand_aside(b, b.keys.fair, key) end
  elseif line.is_first or tag <= b.virtual then
    zput(b.t, b.keys.fair, key, false)
    flow.pass(b, tag)
  end
end

-- Takes turns between the fairness keys: the one with the least tag goes first, for as many
-- tasks as it may have before another's turn comes.
local function take_turns(b, agent, want, started, taken)
  local line = { rows = {}, row = 1, from = 0, page = 16, is_first = true }
  line.rows = call('ZRANGE', b.keys.fair, 0, line.page - 1, 'WITHSCORES')
  while #taken.ids < want do -- bounded by want and the keys
    local key, tag = next_key(b, line)
    while key and (not line[1] or math.max(tag, b.virtual) < line[1].tag) do -- bounded by HEADS_MOST
      look_into(b, agent, want, line, key, tag)
      key, tag = next_key(b, line)
    end
    local first = table.remove(line, 1)
    if not first then return end
    local weight, before = flow.weight(b.t, first.key), #taken.ids
    local others = math.min(line[1] and line[1].tag or math.huge, math.max(tag or math.huge, b.virtual))
    local most = math.min(want - before, math.max(1, math.ceil((others - first.tag) * weight)))
    take_lanes(b, first.walk, before + most, started, taken)
    local count = #taken.ids - before
    if count > 0 then
      flow.pass(b, first.tag + (count - 1) / weight)
      first.tag = first.tag + count / weight
      zput(b.t, b.keys.fair, first.key, first.tag)
      if count == most then stand_in_line(line, first) end
    end
  end
end

-- Whether a reservation may be taken over: at once where it was made for whoever waited,
-- after half of its time where the agent was preferred, never where it was handed over.
local function may_steal(t, r, until_ms)
  if has(r, 'R') then return false end
  return not has(r, 'P') or 2 * t.ms >= tonumber(r[SINCE]) + until_ms
end

-- From at most three most loaded agents, half of the unstarted reservations that fit.
local function steal(b, agent, want, started, taken)
  local rows, ids = call('ZRANGE', b.keys.reserved, 0, STEAL_SEEN - 1, 'WITHSCORES'), {}
  if #rows == 0 then return end
  local set = call('HMGET', b.keys.board, 'steal_most', 'steal_threshold')
  local threshold = tonumber(set[2]) or 2
  for i = 1, #rows, 2 do ids[#ids + 1] = rows[i] end
  load_records(b, ids)
  local by_agent, victims = {}, {}
  for i = 1, #ids do
    local r = b.records[ids[i]]
    if r and r[STATUS] == 'a' and r[HOLDER] ~= agent.id and serves(agent, r[LANE])
      and not kind_paused(b, r[LANE]) and may_steal(b.t, r, tonumber(rows[i * 2])) then
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
  local most = math.min(want, tonumber(set[1]) or STEAL_MOST)
  for v = 1, math.min(#victims, STEAL_VICTIMS) do
    local victim, count = victims[v], 0
    if #victim < threshold then break end
    for i = #victim, #victim - floor(#victim / 2) + 1, -1 do
      if #taken.ids >= most then break end
      local r = b.records[victim[i]]
      if not kind_paused(b, r[LANE]) and flow.admit(b.t, r[LANE], #taken.ids >= started) then
        take(taken, victim[i], r[SCORE], false)
        if b.t.gated then breakers.choose(b.t, r[LANE], 1) end
        count = count + 1
      end
    end
    if count > 0 then
      fact(b.t, 'workstealing:request', b.name, '', 'stolen', agent.id, 0, victim.agent .. '|' .. count)
      count_in_totals(b.t, 'steals')
    end
  end
end

-- A record that waits in its lane with nothing special about it: attempt and tail. Most
-- are, and are then rewritten as text; the others take the general way.
local PLAIN_PENDING = '^p|(%d+)|%d+|||%d*|(||[^|]*|%-?%d+|0|0||||%d*)$'

-- Records, bodies, and the large payloads kept beside them; cut where the reply would grow
-- too big.
local function load_taken(b, taken)
  local ids, bytes = taken.ids, 0
  taken.raws = call('HMGET', b.keys.state, unpack_values(ids))
  taken.bodies, taken.payloads = call('HMGET', b.keys.tasks, unpack_values(ids)), {}
  taken.attempts, taken.tails = {}, {}
  for i = 1, #ids do
    local body, payload = taken.bodies[i] or '', ''
    taken.attempts[i], taken.tails[i] = match(taken.raws[i], PLAIN_PENDING)
    flow.touch_claim(b, taken.lanes[i] or load_record(b, ids[i])[LANE])
    if not taken.attempts[i] and has(load_record(b, ids[i]), 'L') then
      payload = call('GET', b.keys.payload .. ids[i]) or ''
    end
    taken.bodies[i], taken.payloads[i] = body, payload
    bytes = bytes + #body + #payload
    if bytes > REPLY_BYTES and i > 1 then
      for k = #ids, i, -1 do ids[k] = nil end
      taken.heads = {}
      break
    end
  end
end

-- Grants tasks that nobody holds: a fence, a lease, a place among the agent's tasks.
-- The first `started` of them begin at once; the others were claimed ahead. Adds to the
-- reply five values a task: id, deadline, record, body, payload.
local function grant(b, agent, instance, taken, started, lease_ms, reply)
  local t, keys, ids = b.t, b.keys, taken.ids
  local first = take_fences(t, #ids)
  local holder = instance == '' and agent.id or agent.id .. '/' .. instance
  local held, prefix = held_key(t.prefix, agent.id), b.name .. ':'
  local since, between = tostring(t.ms), '|' .. holder .. '|'
  local states, leases, holds, removals = {}, {}, {}, {}
  local usual_deadline = int(t.ms + lease_ms)
  local lines, size = lines_of(t, 'task:claimed', b.name), #reply
  local claimed, at_once = '|claimed' .. between, '|' .. since .. '|'
  for i = 1, #ids do
    local id, fence, raw = ids[i], int(first + i - 1), nil
    local lane, deadline = taken.lanes[i], usual_deadline
    local letter = i <= started and 'c' or 'k'
    if lane then b.given = b.given + 1 end
    local attempt, tail = taken.attempts[i], taken.tails[i]
    if attempt and lane and not flow.counts(lane) and not (t.gated and breakers.gates(t, agent.id, lane)) then
      attempt = attempt == '0' and '1' or int(attempt + 1)
      raw = letter .. '|' .. attempt .. '|' .. fence .. between .. taken.scores[i] .. at_once .. tail
      local removed = removals[lane]
      if not removed then removed = {}; removals[lane] = removed end
      removed[#removed + 1] = id
      b.records[id] = nil
    else
      local r = load_record(b, id)
      leave(b, id, r)
      unflag(r, 'V')
      attempt = tonumber(r[ATTEMPT]) + 1
      r[STATUS], r[ATTEMPT], r[FENCE], r[HOLDER] = letter, tostring(attempt), fence, holder
      r[SCORE], r[SINCE] = taken.scores[i], since
      flow.grant(b, id, r, fence)
      if t.gated then breakers.begin_claim(t, r, agent.id) end
      local lease = r[LEASE] ~= '' and tonumber(r[LEASE]) or lease_ms
      if r[TIMEOUT] ~= '' then lease = math.min(lease, tonumber(r[TIMEOUT])) end
      deadline = int(t.ms + lease)
      raw = concat(r, '|', 1, 16) .. (r[17] or '')
    end
    local n = i * 2
    states[n - 1], states[n] = id, raw
    leases[n - 1], leases[n] = deadline, id
    holds[n - 1], holds[n] = fence, prefix .. id
    lines[#lines + 1] = id .. claimed .. fence .. '|' .. attempt
    reply[size + 1], reply[size + 2], reply[size + 3] = id, deadline, raw
    reply[size + 4], reply[size + 5] = taken.bodies[i], taken.payloads[i]
    size = size + 5
  end
  send('HSET', keys.state, states)
  send('ZADD', keys.leases, leases)
  send('ZADD', held, holds)
  for lane, removed in pairs(removals) do
    send('ZREM', keys.lane .. lane, removed)
    local head = taken.heads[lane]
    if head == nil or b.lanes[lane] ~= nil then head = true end
    b.lanes[lane] = head
  end
  t.flow = nil -- what was granted counts from here on
  agent.held = agent.held + #ids
  b.held = b.held + #ids
  if b.claims_most then
    b.claims = b.claims + #ids
    hput(t, keys.board, 'claims', int(b.claims))
  end
  return first
end

-- Adds tasks that the caller holds already to a reply, as a grant would.
local function append_held(b, taken, reply)
  for i = 1, #taken.ids do
    local id, n = taken.ids[i], #reply
    reply[n + 1], reply[n + 2] = id, call('ZSCORE', b.keys.leases, id) or '0'
    reply[n + 3], reply[n + 4], reply[n + 5] = taken.raws[i], taken.bodies[i], taken.payloads[i]
  end
end

-- Tasks that an earlier call with this request id granted and that are still held under
-- its fences; the fences of the others are listed as lost. Nil where it is not known. What
-- was granted to one is not told to another that chose the same id.
local function repeat_claim(b, agent_id, instance, request)
  local t = b.t
  local memory = request ~= '' and call('GET', request_key(t.prefix, request))
  if not memory then return nil end
  local caller, first, count = match(memory, '^(.*)|(%d+)|(%d+)$')
  if caller ~= b.name .. '|' .. agent_id .. '|' .. instance then
    return { 'request_conflict', request }
  end
  local prefix = b.name .. ':'
  first, count = tonumber(first), tonumber(count)
  local taken, seen = nothing_taken(), {}
  for _, key in ipairs({ held_key(t.prefix, agent_id), parked_key(t.prefix, agent_id) }) do
    local rows = call('ZRANGEBYSCORE', key, first, first + count - 1, 'WITHSCORES')
    for i = 1, #rows, 2 do
      if string.sub(rows[i], 1, #prefix) == prefix then
        local id = string.sub(rows[i], #prefix + 1)
        local r = load_record(b, id)
        if r and HELD[r[STATUS]] and tonumber(r[FENCE]) == tonumber(rows[i + 1]) then
          take(taken, id, '', false)
          seen[tonumber(rows[i + 1])] = true
        end
      end
    end
  end
  local lost = {}
  for fence = first, first + count - 1 do
    if not seen[fence] then lost[#lost + 1] = int(fence) end
  end
  local reply = { 'replayed', concat(lost, ',') }
  if #taken.ids > 0 then load_taken(b, taken) end
  append_held(b, taken, reply)
  return reply
end

-- Only a free slot makes an instance wait: a full one would keep work from idle ones.
local function wait_for_bell(b, agent, instance, wants, wait_ms)
  local member = agent.id .. '/' .. instance
  local until_ms = b.t.ms + wait_ms + math.min(wants, WANTS - 1) / WANTS
  if wants > 0 and wait_ms > 0 and b.is_new then
    -- No sweep comes to a board that is not there, or not any more.
    call('ZADD', b.keys.waiters, until_ms, member)
    call('PEXPIRE', b.keys.waiters, wait_ms + NOWHERE_KEPT_MS)
  elseif wants > 0 and wait_ms > 0 then
    zput(b.t, b.keys.waiters, member, until_ms)
  elseif #waiters_of(b) > 0 then
    zput(b.t, b.keys.waiters, member, false)
  end
end

-- The claim itself, after its refusals: what waits for this agent, in order.
-- Answers `ok` and five values a task, or `empty`, or `agent_full`; the second value is in how
-- many ms a rate that held tasks back lets one through.
local function claim(b, agent, instance, request, want, started, wait_ms, lease_ms)
  local t = b.t
  sweep_for_claim(b)
  beat(t, agent.id, instance)
  local room = agent.limit - agent.held
  local most = want < room and want or room
  if b.is_limited then most = math.min(most, (room_of(b))) end
  if t.gated then most = math.min(most, breakers.claims(t, agent.id)) end
  local taken = nothing_taken()
  if most > 0 then
    take_reserved(b, agent, most, started, taken)
    local open_most = most -- what is reserved for others keeps its room
    if b.is_limited then open_most = math.min(most, #taken.ids + room_of(b) - b.reserved) end
    if #taken.ids < open_most and b.is_fair then
      take_turns(b, agent, open_most, started, taken)
    elseif #taken.ids < open_most then
      take_lanes(b, new_walk((fitting_heads(b, agent, open_most, b.keys.heads))), open_most, started, taken)
    end
    if #taken.ids == 0 then steal(b, agent, most, started, taken) end
  end
  local reply = { 'ok', '' }
  if #taken.ids > 0 then
    load_taken(b, taken)
    local first = grant(b, agent, instance, taken, started, lease_ms, reply)
    if request ~= '' then
      call('SET', request_key(t.prefix, request), b.name .. '|' .. agent.id .. '|' .. instance .. '|'
        .. int(first) .. '|' .. #taken.ids, 'PX', REQUEST_KEPT_MS)
    end
  elseif want > 0 then
    reply[1] = room <= 0 and 'agent_full' or 'empty'
  end
  if t.flow_next and #taken.ids < started then
    local rank = call('ZRANK', b.keys.waiters, agent.id .. '/' .. instance)
    reply[2] = flow.again_ms(t, rank or call('ZCARD', b.keys.waiters))
  end
  wait_for_bell(b, agent, instance, started - #taken.ids, wait_ms)
  return reply
end
