-- How a task ends, and what follows for the tasks that depend on it.
-- include place

local CASCADE_LIMIT = 500 -- tasks handled in one call; the rest waits in `cascades`
local OUTCOME_INDEX = { d = 'done', f = 'failed', x = 'cancelled' }
local ATTEMPTS_KEPT = 100

-- Who has a unique key, as this call will leave it.
local function holder_of_key(b, key)
  local gathered = b.t.hashes[b.keys.unique]
  if gathered and gathered[key] ~= nil then return gathered[key] end
  return call('HGET', b.keys.unique, key)
end

local function remember(b, id, r, field, value)
  hput(b.t, b.keys.extra .. id, field, value)
  flag(r, 'E')
end

-- Ends a task that `leave` took from its place, and queues its dependents.
local function end_task(b, id, r, status)
  local t = b.t
  r[SCORE] = status == 'd' and r[SINCE] ~= '' and tostring(t.ms - tonumber(r[SINCE])) or ''
  r[STATUS], r[SINCE] = status, tostring(t.ms)
  zput(t, b.keys[OUTCOME_INDEX[status]], id, t.ms)
  if has(r, 'U') then
    local key = recall(b, id, 'unique')
    if key and holder_of_key(b, key) == id then hput(t, b.keys.unique, key, false) end
  end
  if has(r, 'X') then zput(t, b.keys.deadlines, id, false) end
  if has(r, 'D') then
    t.cascade = t.cascade or {}
    t.cascade[#t.cascade + 1] = { b = b, id = id, from = 0 }
  end
  save(b, id)
end

local function fail_task(b, id, r, error_json, extra)
  remember(b, id, r, 'error', error_json)
  end_task(b, id, r, 'f')
  fact(b.t, 'task:failed', b.name, id, 'failed', r[HOLDER], r[FENCE], extra)
end

local function cancel_task(b, id, r, reason)
  if not has(r, 'C') then remember(b, id, r, 'reason', reason) end -- else of who asked for it
  unflag(r, 'C')
  end_task(b, id, r, 'x')
  fact(b.t, 'task:cancelled', b.name, id, 'cancelled', r[HOLDER], r[FENCE], reason == 'skipped' and reason or nil)
end

local function bury(b, id, r, error_json, why)
  fail_task(b, id, r, error_json, why)
  zput(b.t, b.keys.dead, id, b.t.ms)
  if b.t.channels then
    call('PUBLISH', retry_channel(b.t.prefix, 'retry_exhausted'), '{"type":"retry_exhausted","taskId":"'
      .. id .. '","projectId":"' .. b.name .. '","attempts":' .. r[ATTEMPT] .. ',"timestamp":"'
      .. iso(b.t.ms) .. '"}')
  end
end

local function log_attempt(b, id, r, error_json)
  local key = b.keys.attempts .. id
  local agent, instance = match(r[HOLDER], '^([^/]*)/?(.*)$')
  call('RPUSH', key, '{"attempt":' .. r[ATTEMPT] .. ',"fence":' .. r[FENCE] .. ',"agent":"' .. agent
    .. '","instance":"' .. instance .. '","claimed_at":' .. (r[SINCE] == '' and '0' or r[SINCE])
    .. ',"ended_at":' .. b.t.ms .. ',"error":' .. error_json .. '}')
  call('LTRIM', key, -ATTEMPTS_KEPT, -1)
  flag(r, 'A')
end

-- After a failed attempt: back to the board after a delay, or a dead letter.
-- Delay: full jitter, `unit` (0 to 1) times min(cap, base * factor ^ (failures - 1)),
-- after Brooker, "Exponential Backoff And Jitter"; or `delay_ms` where given.
local function retry_or_bury(b, id, r, error_json, retryable, unit, delay_ms)
  local t = b.t
  log_attempt(b, id, r, error_json)
  chooser.failed(t, agent_of(r), kind_of(r[LANE]))
  if retryable and not has(r, 'C') then breakers.end_claim(t, r, 'failure') end
  leave(b, id, r)
  local failures = tonumber(r[FAILURES]) + 1
  r[FAILURES] = tostring(failures)
  if has(r, 'C') then return cancel_task(b, id, r, 'requested') end
  local most, base, factor, cap = 3, 1000, 2000, 300000
  if r[RETRY] ~= '' then
    most, base, factor, cap = match(r[RETRY], '^(%d+):(%d+):(%d+):(%d+)$')
    most, base, factor, cap = tonumber(most), tonumber(base), tonumber(factor), tonumber(cap)
  end
  if not retryable then return bury(b, id, r, error_json, 'not_retryable') end
  if failures > most then return bury(b, id, r, error_json, 'exhausted') end
  local delay = delay_ms or floor(unit * math.min(cap, base * (factor / 1000) ^ (failures - 1)))
  local due = t.ms + delay
  remember(b, id, r, 'error', error_json)
  r[STATUS], r[SINCE], r[HOLDER] = 's', tostring(t.ms), ''
  r[SCORE] = int(due * 1000 - tonumber(r[PRIORITY]) * b.step)
  zput(t, b.keys.retry, id, due)
  if delay == 0 then b.keys.swept = nil end -- the next claim looks at once
  save(b, id)
  fact(t, 'task:retry_scheduled', b.name, id, 'scheduled', '', r[FENCE], tostring(due))
  if t.channels then
    call('PUBLISH', retry_channel(t.prefix, 'retry_scheduled'), '{"type":"retry_scheduled","taskId":"' .. id
      .. '","attempt":' .. r[FAILURES] .. ',"delayMs":' .. delay .. ',"timestamp":"' .. iso(t.ms) .. '"}')
  end
end

local function dependency_error(id, status)
  return '{"type":"dependency_failed","message":"Dependency ' .. id .. ' ended ' .. WORDS[status]
    .. '.","retryable":false,"details":{"cause":"' .. id .. '"}}'
end

-- One dependency of a blocked task is satisfied.
local function satisfy(b, cause, id, r)
  local key = b.keys.needs .. id
  if call('SREM', key, cause) == 0 then return end
  if r[STATUS] == 'b' and call('SCARD', key) == 0 then
    leave(b, id, r)
    make_ready(b, id, r)
    save(b, id)
  end
end

-- A dependency ended without success: the task's own policy decides.
local function dependency_failed(b, cause, status, id, r)
  if has(r, 'G') then return satisfy(b, cause, id, r) end
  if r[STATUS] ~= 'b' then return end
  leave(b, id, r)
  remember(b, id, r, 'cause', cause)
  if has(r, 'S') then
    cancel_task(b, id, r, 'skipped')
  else
    fail_task(b, id, r, dependency_error(cause, status), 'dependency_failed')
  end
end

-- A task's status letter and record; of one that was purged, the outcome that was kept.
local function outcome_of(b, id)
  local r = load_record(b, id)
  if r then return r[STATUS], r end
  local gone = call('HGET', b.keys.outcomes, id)
  return gone and string.sub(gone, 1, 1) or nil, nil
end

-- Has a dependency that was never submitted tell this task when it comes, or is given up.
local function await_unknown(b, dep)
  if not call('ZSCORE', b.keys.unresolved, dep) then zput(b.t, b.keys.unresolved, dep, b.t.ms) end
end

-- A dependency that ended without success, for whose sake the task would end again. Also
-- of one that was purged the outcome counts.
local function failed_need(b, id, r)
  if not has(r, 'N') or has(r, 'G') then return nil end
  local needs = call('SMEMBERS', b.keys.needs .. id)
  load_records(b, needs)
  for i = 1, #needs do
    local status = outcome_of(b, needs[i])
    if status == 'f' or status == 'x' then return needs[i] end
  end
end

-- The unmet dependencies of a task that is put back, after it had ended. Those that ended
-- hold it no more, for `failed_need` has found none, or its policy is to run all the same.
local function needs_again(b, id, r)
  local key, unmet = b.keys.needs .. id, 0
  local needs = call('SMEMBERS', key)
  load_records(b, needs)
  for i = 1, #needs do
    local status, record = outcome_of(b, needs[i])
    local is_met = status and not record or (status == 'f' or status == 'x') and has(r, 'G')
    if is_met then
      call('SREM', key, needs[i])
    else
      unmet = unmet + 1
      if not status then
        call('ZADD', b.keys.dependents .. needs[i], 'NX', int(b.t.now), id)
        await_unknown(b, needs[i])
      end
    end
  end
  return unmet
end

-- The dependency lives again: so do those that ended for its sake, unless another
-- dependency of theirs has failed too, or somebody else has their unique key by now.
local function revive_dependent(b, cause, id, r)
  if (r[STATUS] ~= 'f' and r[STATUS] ~= 'x')
    or recall(b, id, 'cause') ~= cause then return end
  local needs = call('SMEMBERS', b.keys.needs .. id)
  load_records(b, needs)
  for i = 1, #needs do
    local other = needs[i] ~= cause and outcome_of(b, needs[i])
    if other == 'f' or other == 'x' then return remember(b, id, r, 'cause', needs[i]) end
  end
  local key = has(r, 'U') and recall(b, id, 'unique')
  if key and (holder_of_key(b, key) or id) ~= id then return end
  if key then hput(b.t, b.keys.unique, key, id) end
  wake_board(b)
  needs_again(b, id, r)
  leave(b, id, r)
  r[STATUS], r[SINCE], r[HOLDER] = 'b', tostring(b.t.ms), ''
  zput(b.t, b.keys.blocked, id, b.t.ms)
  local deadline = has(r, 'X') and tonumber(recall(b, id, 'deadline'))
  if deadline and deadline > b.t.ms then
    zput(b.t, b.keys.deadlines, id, deadline)
  else
    unflag(r, 'X')
  end
  hput(b.t, b.keys.extra .. id, 'cause', false)
  hput(b.t, b.keys.extra .. id, 'error', false)
  hput(b.t, b.keys.extra .. id, 'reason', false)
  save(b, id)
  fact(b.t, 'task:revived', b.name, id, 'blocked', '', r[FENCE])
  if has(r, 'D') then b.t.cascade[#b.t.cascade + 1] = { b = b, id = id, from = 0 } end
end

-- Works off the queued dependents, at most CASCADE_LIMIT in all; what is left goes to
-- the durable queue, which the caller and the janitor continue.
local function cascade(t)
  local queue, at, left = t.cascade or {}, 1, t.cascade_left or CASCADE_LIMIT
  t.cascade = queue
  while at <= #queue and left > 0 do -- bounded by left, and by the graph being acyclic
    local entry = queue[at]
    local b, id = entry.b, entry.id
    local r = load_record(b, id)
    local ids = call('ZRANGE', b.keys.dependents .. id, entry.from, entry.from + left - 1)
    load_records(b, ids)
    for i = 1, #ids do
      local dependent = b.records[ids[i]]
      if dependent then
        if r and r[STATUS] == 'd' then
          revive_dependent(b, id, ids[i], dependent) -- of a retry that was over before its cascade
          satisfy(b, id, ids[i], dependent)
        elseif r and (r[STATUS] == 'f' or r[STATUS] == 'x') then
          dependency_failed(b, id, r[STATUS], ids[i], dependent)
        elseif r then
          revive_dependent(b, id, ids[i], dependent)
        end
      end
    end
    left = left - #ids
    entry.from = entry.from + #ids
    if left > 0 then at = at + 1 end
  end
  for i = at, #queue do
    call('RPUSH', cascades_key(t.prefix), queue[i].b.name .. ':' .. queue[i].id .. ':' .. queue[i].from)
    t.more = true
  end
  t.cascade, t.cascade_left = {}, left
end
