-- Take the namespace's clock, and say whether the caller may sweep this interval.
--
-- Of many callers within an interval one is told `due`. `continuous` moves the clock
-- without the grace that a gap would give: for clocks that tests move.
--
-- KEYS    format
-- ARGV    interval_ms:int, continuous:int
-- RETURNS due boards | not_due | no_namespace | newer_format
-- EVENTS  none
-- REPEAT  by state
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local last = tonumber(call('HGET', format_key, 'swept') or '0')

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
close(t)
local reply = { 'due' }
local boards = call('ZRANGE', boards_key(t.prefix), 0, -1)
for i = 1, #boards do reply[i + 1] = boards[i] end
return reply
