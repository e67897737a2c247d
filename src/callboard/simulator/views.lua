-- What strategies see of simulated agents. The text of strategy.lua stands above this one.
--
-- An agent is one table for the whole course, brought up to date in place. What is true of it
-- stands in `real`: the same table, or another where strategies see an old view.

local WAITERS_SEEN = 32 -- as many as the engine looks at, include/place.lua

local views = { names = strategies.names, lanes = {}, stale_ms = 0 }
local every, state, refreshed_ms = {}, {}, 0

local SEEN = { 'held', 'reserved', 'response_ms', 'done', 'failed', 'health', 'recent_done',
  'recent_failed', 'cpu', 'memory', 'is_waiting', 'since_ms' }
local BY_KIND = { 'times', 'counts', 'last' }

local function fresh()
  return {
    held = 0, reserved = 0, done = 0, failed = 0, recent_done = 0, recent_failed = 0, health = 1,
    cpu = 0, memory = 0, is_waiting = false, since_ms = 0, times = {}, counts = {}, last = {},
  }
end

local function bring_up_to_date(c)
  local real = c.real
  for i = 1, #SEEN do c[SEEN[i]] = real[SEEN[i]] end
  for i = 1, #BY_KIND do
    for kind, value in pairs(real[BY_KIND[i]]) do c[BY_KIND[i]][kind] = value end
  end
end

-- An agent that comes, of which nothing is known but what it registers.
function views.add(id, slots, limit)
  local c = fresh()
  c.id, c.ready, c.limit, c.weight, c.priority, c.match = id, slots, limit, 1, 0, 1
  c.real = views.stale_ms > 0 and fresh() or c
  c.real.is_here, c.real.outcomes = true, {}
  every[#every + 1] = c
  return c
end

function views.gone(c) c.real.is_here = false end

function views.moved(c, held, reserved, is_waiting, since_ms)
  local real = c.real
  real.held, real.reserved, real.is_waiting, real.since_ms = held, reserved, is_waiting, since_ms
  real.cpu = held < c.ready and held / c.ready or 1
  real.memory = real.cpu
end

-- An attempt has ended, after so long: what include/choose.lua keeps of it.
function views.ended(c, kind, ms, is_done, now_ms)
  local real = c.real
  local outcomes, ended = real.outcomes, real.done + real.failed
  outcomes[ended % strategies.recent + 1] = is_done
  real.recent_done, real.recent_failed = 0, 0
  for i = 1, #outcomes do
    local count = outcomes[i] and 'recent_done' or 'recent_failed'
    real[count] = real[count] + 1
  end
  real.health = 1 - 0.3 * real.recent_failed / #outcomes
  if not is_done then
    real.failed = real.failed + 1
    return
  end
  local runs = real.counts[kind] or 0
  real.times[kind] = strategies.average(real.times[kind] or ms, runs, ms)
  real.counts[kind], real.last[kind] = runs + 1, now_ms
  real.response_ms = strategies.average(real.response_ms or ms, real.done, ms)
  real.done = real.done + 1
end

local function longest_waiting(x, y)
  if x.real.since_ms ~= y.real.since_ms then return x.real.since_ms < y.real.since_ms end
  return x.id < y.id
end

-- Those that may have a task of this kind now, as far as strategies know them: with room,
-- and waiting where only those are asked for.
function views.candidates(lane, kind, now_ms, is_push)
  if views.stale_ms > 0 and now_ms - refreshed_ms >= views.stale_ms then
    for i = 1, #every do bring_up_to_date(every[i]) end
    refreshed_ms = now_ms - now_ms % views.stale_ms
  end
  local agents, found = views.lanes[lane], {}
  for i = 1, #agents do
    local real = agents[i].real
    if real.is_here and (is_push or real.is_waiting) and real.held + real.reserved < agents[i].limit then
      found[#found + 1] = agents[i]
    end
  end
  if not is_push and #found > WAITERS_SEEN then
    table.sort(found, longest_waiting)
    for i = #found, WAITERS_SEEN + 1, -1 do found[i] = nil end
  end
  local sum, count, last = 0, 0, 0
  for i = 1, #found do
    local c = found[i]
    local known = is_push and c or c.real -- who waits is known where only those are asked for
    c.waiting = known.is_waiting
    c.waited_ms = c.waiting and now_ms - known.since_ms or 0
    c.avg_ms, c.runs = c.times[kind], c.counts[kind] or 0
    if c.avg_ms then sum, count = sum + c.avg_ms, count + 1 end
    if (c.last[kind] or 0) > last then last = c.last[kind] end
  end
  for i = 1, #found do
    found[i].mean_ms = count > 0 and sum / count or nil
    found[i].was_last = last > 0 and found[i].last[kind] == last
  end
  return found
end

-- The chosen agent's id, or nil; and how many there were to choose from.
function views.choose(strategy, lane, id, kind, key, priority, required, now_ms, is_push)
  local found = views.candidates(lane, kind, now_ms, is_push)
  if #found == 0 then return nil, 0 end
  local task = { id = id, kind = kind, key = key, priority = priority, required = required }
  local index = strategies.choose(strategy, task, found, state)
  return index and found[index].id, #found
end

return views
