-- Give resources back, once for each time they were acquired, and hand them to who is next.
--
-- A row is resource, fence; fence 0 for whatever it is. A stale one changes nothing. What an
-- operation was answered is kept for a minute, so that one sent again hears the same.
--
-- KEYS    format
-- ARGV    owner:str, operation:str, count:int, holdings:rows
-- RETURNS ok more answers | no_namespace | newer_format
-- ITEMS   ok | kept | lock_lost
-- EVENTS  resource:released, resource:acquired, deadlock:detected
-- REPEAT  by operation id
-- FLAGS   allow-oom
-- include waits

local t, refusal = open(format_key, now)
if not t then return refusal end
local answers, is_waited, is_missing = {}, locks.of(t).has_globs, false
for i = 1, count do
  local l = locks.resource(t, ARGV[holdings_at + (i - 1) * 2])
  is_waited = l.waiting > 0 or is_waited
  is_missing = is_missing or not locks.is_holder(l, owner, tonumber(ARGV[holdings_at + (i - 1) * 2 + 1]))
end
local released = locks.of(t).keys.released .. operation
local before = is_missing and call('GET', released)
if before then return { 'ok', 'more', before } end
-- One that waits itself stands behind others from here, if it was let through for what it
-- gives back.
local waiting = is_waited and locks.wait_of(t, owner)
if waiting then waits.touch(t) end
locks.touch(t, owner)

-- writes
local is_dropped = false
for i = 1, count do
  local l = locks.resource(t, ARGV[holdings_at + (i - 1) * 2])
  answers[i] = locks.release(t, l, owner, tonumber(ARGV[holdings_at + (i - 1) * 2 + 1]), operation)
  is_dropped = is_dropped or answers[i] == 'ok'
end
if is_dropped then call('SET', released, concat(answers, ','), 'PX', LOCK_RELEASED_MS) end
if locks.is_waiting(waiting) then
  locks.wake(t)
  waits.check(t, owner)
end
locks.close(t)
return { 'ok', t.has_locks_left and 'more' or '', concat(answers, ',') }
