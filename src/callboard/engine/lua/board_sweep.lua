-- One bounded round of a board's housekeeping: overdue leases, lapsed reservations, due
-- tasks, passed deadlines, references never seen, retention. `more` asks for another.
--
-- Says when the board is to be swept again: with the next interval while it has unfinished
-- tasks, else within a minute. One that has been empty for a week, and that nobody has
-- configured, is removed.
--
-- KEYS    format
-- ARGV    board_name:str, limit:int
-- RETURNS ok more | no_namespace | newer_format
-- EVENTS  task:lease_lost, task:retry_scheduled, task:failed, task:cancelled, task:ready, task:assigned, task:purged, board:removed, error:cascade
-- REPEAT  by state
-- FLAGS   allow-oom
-- include lose, purge, rest

local OUTCOME_KEPT_MS, OUTCOMES_MOST = 604800000, 1000000
local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local h = call('HMGET', b.keys.board, 'unresolved_after', 'finished_for', 'finished_most', 'dead_for',
  'failed_from', 'empty_since')
local unresolved_after, finished_for = tonumber(h[1]), tonumber(h[2]) or 86400000
local finished_most, dead_for = tonumber(h[3]) or 100000, tonumber(h[4]) or 2592000000
local failed_from, empty_since = tonumber(h[5]) or 0, tonumber(h[6])
touch_board(b)

-- writes
t.by = 'janitor'
local busy = false
local function swept(count)
  if count >= limit then busy = true end
end
swept(flow.put_back_due(b, limit))
swept(expire_deadlines(b, limit))
swept(expire_leases(b, limit))
swept(lapse(b, limit))
swept(promote(b, limit))
if unresolved_after then
  local ids = call('ZRANGEBYSCORE', b.keys.unresolved, '-inf', t.ms - unresolved_after, 'LIMIT', 0, limit)
  local left = limit
  for i = 1, #ids do
    if left <= 0 then break end
    local key = b.keys.dependents .. ids[i]
    local dependents = call('ZRANGE', key, 0, left - 1)
    load_records(b, dependents)
    for j = 1, #dependents do
      local r = b.records[dependents[j]]
      if r and r[STATUS] == 'b' then dependency_failed(b, ids[i], 'x', dependents[j], r) end
    end
    if #dependents > 0 then send('ZREM', key, dependents) end
    if #dependents < left then zput(t, b.keys.unresolved, ids[i], false) end
    left = left - #dependents
  end
  swept(left > 0 and #ids or limit)
end
cascade(t)
settle(t)
swept(flow.trim(b, limit))
for _, status in ipairs({ 'done', 'cancelled', 'failed' }) do
  local key, purged, kept = b.keys[status], 0, 0
  -- Dead letters stay longer: each round goes on behind those that the last one kept.
  local from = status == 'failed' and failed_from or 0
  local ids = call('ZRANGEBYSCORE', key, '-inf', t.ms - finished_for, 'LIMIT', from, limit)
  local over = call('ZCARD', key) - finished_most - from
  if #ids < limit and over > #ids then
    ids = call('ZRANGE', key, from, from + math.min(over, limit) - 1)
  end
  for i = 1, #ids do
    local buried = status == 'failed' and call('ZSCORE', b.keys.dead, ids[i])
    if (not buried or tonumber(buried) < t.ms - dead_for) and purge(b, ids[i]) == 'ok' then
      purged = purged + 1
    else
      kept = kept + 1
    end
  end
  if status == 'failed' and from + kept > 0 then
    hput(t, b.keys.board, 'failed_from', #ids == limit and from + kept or false)
  end
  swept(purged)
end
local old = call('ZRANGEBYSCORE', b.keys.outcome_times, '-inf', t.ms - OUTCOME_KEPT_MS, 'LIMIT', 0, limit)
local surplus = call('ZCARD', b.keys.outcome_times) - OUTCOMES_MOST
if #old < limit and surplus > #old then
  old = call('ZRANGE', b.keys.outcome_times, 0, math.min(surplus, limit) - 1)
end
for i = 1, #old do
  zput(t, b.keys.outcome_times, old[i], false)
  hput(t, b.keys.outcomes, old[i], false)
end
swept(#old)
local idle = call('ZRANGEBYSCORE', b.keys.waiters, '-inf', t.ms, 'LIMIT', 0, limit)
for i = 1, #idle do
  zput(t, b.keys.waiters, idle[i], false)
end
settle(t)
if not b.is_new then rest(b, not busy and not t.more, finished_for, empty_since) end
finish(t)
return { 'ok', (busy or t.more) and 'more' or '' }
