-- Take the namespace's clock, and say whether the caller may sweep this interval.
--
-- Of many callers within an interval one is told `due`, which sweeps have something to do,
-- and which boards: at most 500, the most overdue first. `continuous` moves the clock
-- without the grace that a gap would give: for clocks that tests move.
--
-- KEYS    format
-- ARGV    interval_ms:int, continuous:int
-- RETURNS due sweeps boards | not_due | no_namespace | newer_format
-- EVENTS  none
-- REPEAT  by state
-- FLAGS   allow-oom
-- include due

local BOARDS_MOST = 500
local t, refusal = open(format_key, now)
if not t then return refusal end
local last = tonumber(call('HGET', format_key, 'swept') or '0')
local due, all = boards_due_key(t.prefix), boards_key(t.prefix)
local is_partial = call('ZCARD', due) ~= call('ZCARD', all) -- as an older release left it

-- writes
if continuous == 1 then
  t.graced = false
  call('HSET', format_key, 'now', int(t.now), 'interval', interval_ms)
end
if continuous == 0 and t.ms - last < interval_ms then
  close(t)
  return { 'not_due' } -- an outcome, not a refusal
end
call('HSET', format_key, 'swept', t.ms)
if is_partial then call('ZUNIONSTORE', due, 2, due, all, 'WEIGHTS', 1, 0, 'AGGREGATE', 'MAX') end
close(t)
local reply = { 'due', sweeps.due(t) }
local boards = call('ZRANGEBYSCORE', due, '-inf', t.ms, 'LIMIT', 0, BOARDS_MOST)
for i = 1, #boards do reply[i + 2] = boards[i] end
return reply
