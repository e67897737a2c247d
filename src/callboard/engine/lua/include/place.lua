-- Where a task stands: its lane, a reservation, or one of the board's indexes.
-- include record, agent, errors, choose, flow, lock

local TAKE_UP_MS = 5000 -- a reservation made for a waiting agent lapses after this
local WAITERS_SEEN = 32
-- A waiter's score is the ms until which it waits and, as its fraction, how many tasks it
-- wants in 1,024ths: exact in a double, and one structure where two would be written.
local WANTS = 1024

local INDEXES = { b = 'blocked', q = 'input', d = 'done', f = 'failed', x = 'cancelled' }

-- A field of the task's extra hash, as this call will leave it.
local function recall(b, id, field)
  local key = b.keys.extra .. id
  local gathered = b.t.hashes[key]
  if gathered and gathered[field] ~= nil then return gathered[field] end
  return call('HGET', key, field)
end

local TOUCHED_SETS = { 'heads', 'fair', 'aside', 'leases', 'reserved', 'scheduled', 'blocked', 'input', 'done',
  'failed', 'cancelled', 'unresolved', 'deadlines', 'outcome_times', 'waiters', 'retry', 'dead' }
local TOUCHED_HASHES = { 'tasks', 'state', 'results', 'unique', 'outcomes' }

-- The sorted sets of a board and what stands beside it, kept with its keys. The first is
-- always missing, so that an intersection looks at the type of each and at no member.
local function touched_sets(t, keys)
  local sets = { keys.tasks .. ':', boards_key(t.prefix), heartbeats_key(t.prefix),
    boards_due_key(t.prefix) }
  for i = 1, #TOUCHED_SETS do sets[i + 4] = keys[TOUCHED_SETS[i]] end
  keys.touched = sets
  return sets
end

-- Fails with WRONGTYPE, before anything was written, where a key that most changes of the
-- board's tasks reach is somebody else's.
local function touch_usual(b)
  local sets = b.keys.touched or touched_sets(b.t, b.keys)
  call('ZINTERCARD', #sets, unpack_values(sets))
  touch_events(b)
end

-- The same for all keys that any change may reach.
local function touch_board(b)
  if b.is_touched then return end
  b.is_touched = true
  touch_usual(b)
  for i = 1, #TOUCHED_HASHES do touch('HLEN', b.keys[TOUCHED_HASHES[i]]) end
  touch('LLEN', cascades_key(b.t.prefix))
end

-- The same for what the holders of these tasks hold, which `leave` takes them out of.
local function touch_holders(b, ids)
  local seen = {}
  load_records(b, ids)
  for i = 1, #ids do
    local r = b.records[ids[i]]
    if r and HELD[r[STATUS]] then
      local key = (has(r, 'W') and parked_key or held_key)(b.t.prefix, agent_of(r))
      if not seen[key] then touch('ZCARD', key) end
      if has(r, 'W') then touch('ZCARD', b.keys.parked) end
      if has(r, 'K') then locks.touch(b.t, locks.claim_owner(b.name, ids[i], r[FENCE])) end
      flow.touch_claim(b, r[LANE])
      seen[key] = true
    end
  end
end

-- Has the board swept from the next interval on: while nothing was unfinished it was swept
-- seldom. Free of cost where it is busy already.
local function wake_board(b)
  if not (b.is_idle or b.is_new) then return end
  b.is_idle = false
  if b.is_new then call('PERSIST', b.keys.waiters) end
  zput(b.t, boards_due_key(b.t.prefix), b.name, b.t.ms)
  hput(b.t, b.keys.board, 'idle', false)
end

-- Takes a task out of the structures that its status put it into.
local function leave(b, id, r)
  local t, keys, status = b.t, b.keys, r[STATUS]
  if status == 'p' then
    zput(t, keys.lane .. r[LANE], id, false)
    b.lanes[r[LANE]] = true
  elseif HELD[status] then
    breakers.end_claim(t, r, 'ignored')
    zput(t, keys.leases, id, false)
    if has(r, 'K') then
      unflag(r, 'K')
      t.ended_claims = t.ended_claims or {}
      table.insert(t.ended_claims, locks.claim_owner(b.name, id, r[FENCE]))
    end
    local agent = agent_of(r)
    local member = b.name .. ':' .. id
    if has(r, 'W') then
      zput(t, parked_key(t.prefix, agent), member, false)
      zput(t, keys.parked, id, false)
      unflag(r, 'W')
    else
      b.held, b.has_left = b.held - 1, true
      b.has_news = b.has_news or r[HOLDER] == agent
      zput(t, held_key(t.prefix, agent), member, false)
      local known = t.agents and t.agents[agent]
      if known then known.held = known.held - 1 end
    end
    if has(r, 'Q') then flow.free(b, id, r) end
    -- A deadline that passed while the task was held counts again as it waits.
    local due = has(r, 'X') and recall(b, id, 'deadline')
    if due then zput(t, keys.deadlines, id, due) end
  elseif status == 'a' then
    b.reserved, b.has_left = b.reserved - 1, true
    zput(t, keys.reserved, id, false)
    zput(t, reserved_key(t.prefix, r[HOLDER]), b.name .. ':' .. id, false)
    local known = t.agents and t.agents[r[HOLDER]]
    if known then known.reserved = known.reserved - 1 end
    unflag(r, 'P')
    unflag(r, 'R')
  elseif status == 's' then
    zput(t, keys.scheduled, id, false)
    zput(t, keys.retry, id, false)
  else
    zput(t, keys[INDEXES[status]], id, false)
    if status == 'f' then zput(t, keys.dead, id, false) end
  end
end

-- Puts a task into the lane of its requirements, claimable by any agent that fits.
local function to_lane(b, id, r)
  local key = b.keys.lane .. r[LANE]
  zput(b.t, key, id, r[SCORE])
  b.lanes[r[LANE]] = true
  b.has_news = b.has_news or not chooser.is_unserved(b.t, r[LANE])
  r[STATUS], r[HOLDER], r[SCORE] = 'p', '', ''
end

-- `mark` says for how long it is out of a thief's reach: P for half of its time, R for all.
local function reserve(b, id, r, agent, until_ms, mark)
  local t = b.t
  if mark then flag(r, mark) end
  b.given, b.timed = b.given + 1, b.timed + 1
  b.waited = b.waited + t.ms - tonumber(r[SINCE] ~= '' and r[SINCE] or r[CREATED])
  r[STATUS], r[HOLDER], r[SINCE] = 'a', agent, tostring(t.ms)
  b.reserved = b.reserved + 1
  zput(t, b.keys.reserved, id, until_ms)
  zput(t, reserved_key(t.prefix, agent), b.name .. ':' .. id, r[SCORE])
  local known = t.agents and t.agents[agent]
  if known then known.reserved, b.has_news = known.reserved + 1, b.has_news or known.push end
  fact(t, 'task:assigned', b.name, id, 'assigned', agent, r[FENCE])
end

-- The waiting instances of this board, longest first, read once a call.
local function waiters_of(b)
  if b.waiters then return b.waiters end
  local t = b.t
  b.waiters = {}
  local rows = call('ZRANGEBYSCORE', b.keys.waiters, t.ms, '+inf', 'WITHSCORES', 'LIMIT', 0, WAITERS_SEEN)
  for i = 1, #rows, 2 do
    local until_ms = floor(tonumber(rows[i + 1]))
    b.waiters[#b.waiters + 1] = {
      member = rows[i], id = match(rows[i], '^[^/]*'), until_ms = until_ms,
      wants = (tonumber(rows[i + 1]) - until_ms) * WANTS,
    }
  end
  return b.waiters
end

-- The waiter that the task `id` of this lane should go to; docs/reference/strategies.md has
-- how the best idle agent is found. Without an id it only asks, and nothing is recorded.
local function best_waiter(b, lane, id)
  local waiters = waiters_of(b)
  if #waiters == 0 or b.paused or kind_paused(b, lane) then return nil end
  if b.is_limited and room_of(b) <= b.reserved then return nil end
  local agents, of_agent = {}, {}
  for i = 1, #waiters do
    local waiter = waiters[i]
    local agent = waiter.wants > 0 and not of_agent[waiter.id] and load_agent(b.t, waiter.id)
    if agent and agent.status == 'active' and agent.held + agent.reserved < agent.limit
      and serves(agent, lane)
      and not (b.t.gated and not breakers.offers(b.t, agent.id, lane)) then
      of_agent[agent.id] = waiter
      agents[#agents + 1] = agent
    end
  end
  if #agents == 0 then return nil end
  return of_agent[chooser.best_idle(b, id, lane, agents, of_agent).id]
end

-- Rings for a reserved task; what a bell says is a hint, and it names `board|id,id`.
local function ring(b, waiter, id)
  local bell, bells = agent_bell(b.t.prefix, waiter.member), b.t.bells
  waiter.wants = waiter.wants - 1
  bells[bell] = bells[bell] and bells[bell] .. ',' .. id or b.name .. '|' .. id
  zput(b.t, b.keys.waiters, waiter.member, waiter.wants > 0 and waiter.until_ms + waiter.wants / WANTS or false)
end

-- A task as the strategies see it. What it is hashed by is its affinity key, else its id.
function chooser.sketch(b, id, r)
  local _, required = string.gsub(match(r[LANE], '^[^;]*;[^;]*;([^;]*)'), '[^,]+', '')
  local key = has(r, 'E') and recall(b, id, 'affinity') or id
  return { id = id, kind = kind_of(r[LANE]), key = key, priority = tonumber(r[PRIORITY]), required = required }
end

-- How many agents have a weight of their own; id and tasks at the moment of each that takes work.
function chooser.loads(t)
  local ids = call('ZRANGE', agents_known_key(t.prefix), 0, chooser.looked_at - 1)
  local weighted, loads = 0, {}
  for i = 1, #ids do
    -- Somebody else's value under our name is passed over.
    local is_hash = call('TYPE', agent_key(t.prefix, ids[i])).ok == 'hash'
    local agent = is_hash and load_agent(t, ids[i])
    if agent and takes_work(agent) then
      loads[#loads + 1] = ids[i]
      loads[#loads + 1] = agent.held + agent.reserved
    end
    if agent and (call('HGET', agent_key(t.prefix, ids[i]), 'weight') or '1') ~= '1' then
      weighted = weighted + 1
    end
  end
  return weighted, loads
end

-- Why nobody is to be chosen for a task, as a word and a fact; nil where it waits for one.
function chooser.standing(b, r)
  if not r then return 'task_not_found', '' end
  if r[STATUS] == 'a' then return 'reserved', r[HOLDER] end
  if r[STATUS] ~= 'p' then return 'not_ready', WORDS[r[STATUS]] end
  if kind_paused(b, r[LANE]) then return 'kind_paused', kind_of(r[LANE]) end
  if b.is_limited and room_of(b) <= b.reserved then return 'at_limit', select(2, room_of(b)) end
  if flow.room(b.t, r[LANE]) <= 0 then return 'at_limit', 'of its keys' end
end

-- Reserves for an agent that was chosen, and rings for it where it waits.
function chooser.give(b, id, r, agent_id, until_ms, mark)
  reserve(b, id, r, agent_id, until_ms, mark)
  local waiters = waiters_of(b)
  for i = 1, #waiters do
    if waiters[i].id == agent_id and waiters[i].wants > 0 then return ring(b, waiters[i], id) end
  end
end

-- The same for a task that stands in its lane.
function chooser.take_aside(b, id, r, agent_id, until_ms)
  local score = call('ZSCORE', b.keys.lane .. r[LANE], id)
  leave(b, id, r)
  r[SCORE] = score
  chooser.give(b, id, r, agent_id, until_ms, 'P')
  save(b, id)
end

-- On a board with a strategy of its own: reserved for the agent that it chooses; into its
-- lane where none has room, or where one that was chosen before did not take it up.
function chooser.push(b, id, r)
  local agent
  if not (b.paused or kind_paused(b, r[LANE]) or b.is_limited and room_of(b) <= b.reserved) then
    agent = chooser.choose(b, b.strategy, chooser.sketch(b, id, r), r[LANE], waiters_of(b))
  end
  if not agent then return to_lane(b, id, r) end
  chooser.give(b, id, r, agent.id, b.t.ms + TAKE_UP_MS)
end

-- Makes a task claimable: reserved for the best waiting agent, whose bell is rung, or
-- into its lane. Its score stands in the record.
local function offer(b, id, r)
  if b.t.limited and flow.is_limited(b.t, r[LANE]) then -- who may have it is known at the claim
    flow.arrived(b.t, r[LANE])
    return to_lane(b, id, r)
  end
  if b.strategy and strategies.reads[b.strategy] and not r.is_lapsed
    -- What was pushed to one that turned it down is left to the next dispatch, which knows by whom.
    and not (b.dispatched > b.t.ms and has(r, 'E') and recall(b, id, 'turned_down')) then
    return chooser.push(b, id, r)
  end
  local waiter = best_waiter(b, r[LANE], id)
  if waiter then
    reserve(b, id, r, waiter.id, b.t.ms + TAKE_UP_MS)
    ring(b, waiter, id)
  else
    to_lane(b, id, r)
  end
end

-- Reserves for one named agent where it is there and fits, ringing its bells; not where the
-- board's limits would keep the agent from taking it up.
local function offer_to(b, id, r, agent_id, for_ms)
  local agent = load_agent(b.t, agent_id)
  if not agent or agent.status ~= 'active' or not serves(agent, r[LANE])
    or b.t.gated and not breakers.offers(b.t, agent_id, r[LANE])
    or b.is_limited and room_of(b) <= b.reserved or flow.room(b.t, r[LANE]) <= 0 then
    return offer(b, id, r)
  end
  reserve(b, id, r, agent_id, b.t.ms + for_ms, 'P')
  local waiters = waiters_of(b)
  for i = 1, #waiters do
    if waiters[i].id == agent_id then ring(b, waiters[i], id) end
  end
end

-- A task that waited for something may be claimed now.
local function make_ready(b, id, r, index)
  local t = b.t
  if r[SCORE] == '' then
    r[SCORE] = int(t.now + (index or 0) - tonumber(r[PRIORITY]) * b.step)
  end
  r[SINCE] = tostring(t.ms)
  if has(r, 'B') then
    unflag(r, 'B')
    local due = tonumber(recall(b, id, 'not_before'))
    if due > t.ms then
      r[STATUS] = 's'
      zput(t, b.keys.scheduled, id, due)
      return fact(t, 'task:ready', b.name, id, 'scheduled', '', r[FENCE], tostring(due))
    end
  end
  local suggested = has(r, 'H') and recall(b, id, 'suggested')
  if suggested then
    local agent, for_ms = match(suggested, '^([^|]*)|(%d+)$')
    offer_to(b, id, r, agent, tonumber(for_ms))
  else
    offer(b, id, r)
  end
  if r[STATUS] == 'p' then fact(t, 'task:ready', b.name, id, 'pending', '', r[FENCE]) end
end

-- After the lanes were written: the heads of those that changed. Of a lane `lanes` has true,
-- or where its new head is known, that one's score: false where nothing is left.
local function write_heads(t)
  for _, b in pairs(t.boards) do
    flow.prepare(b)
    for lane, head in pairs(b.lanes) do
      if head == true then head = call('ZRANGE', b.keys.lane .. lane, 0, 0, 'WITHSCORES')[2] or false end
      zput(t, b.keys.heads, lane, head)
      if b.is_fair or flow.of(lane) then flow.index(b, lane, head) end
    end
    b.lanes = {}
  end
  write_sets(t)
end

-- Writes what was gathered so far, so that later reads of this call see it.
local function settle(t)
  write_sets(t)
  write_heads(t)
  write_hashes(t)
end

-- Room has come on a board with limits: rings as many waiting instances as there is room, and
-- work in the lanes that fit them, to look again. What was reserved for one it finds too.
local function ring_for_room(b)
  local spare = room_of(b) - b.reserved
  if spare <= 0 or #waiters_of(b) == 0 then return end
  local heads = call('ZRANGE', b.keys.heads, 0, WAITERS_SEEN - 1)
  for i = 1, #heads do
    local waiting = math.min(call('ZCARD', b.keys.lane .. heads[i]), (flow.room(b.t, heads[i])))
    local waiter = best_waiter(b, heads[i])
    while waiter and spare > 0 and waiting > 0 do -- bounded by what the waiters seen want
      b.t.bells[agent_bell(b.t.prefix, waiter.member)] = b.name
      waiter.wants, spare, waiting = waiter.wants - 1, spare - 1, waiting - 1
      waiter = best_waiter(b, heads[i])
    end
  end
end

-- On a board that coordinators serve: counts what was given out and what came back, and rings
-- them where a task may be given to an agent that was not there to be given before.
local function tell_dispatch(b)
  local key, t = b.keys.board, b.t
  if b.given > 0 then call('HINCRBY', key, 'distributed', b.given) end
  if b.timed > 0 then call('HINCRBY', key, 'timed', b.timed) end
  if b.waited > 0 then call('HINCRBY', key, 'waited', b.waited) end
  if b.returned > 0 then call('HINCRBY', key, 'returned', b.returned) end
  if not b.has_news then return end
  local bell = dispatch_bell(t.prefix)
  t.bells[bell] = t.bells[bell] and '' or b.name
end

local function finish(t)
  if t.ended_claims then locks.end_claims(t) end
  settle(t)
  flow.wake(t, best_waiter)
  if t.flow_put_back then settle(t) end
  if t.errors then errors.write_of_tasks(t) end
  if t.decisions then chooser.write(t) end
  for _, b in pairs(t.boards) do
    if b.is_limited and b.has_left then ring_for_room(b) end
    if b.dispatched > t.ms then tell_dispatch(b) end
  end
  close(t)
end
