-- Pause a recurring task, or let it go on from its next tick; ticks meanwhile are not missed.
--
-- Where `revision` is not empty, `next_ms` was computed from that definition: if another holds
-- by now the answer is `moved`.
--
-- KEYS    format
-- ARGV    name:str, by:str, paused:int, next_ms:int, revision:str
-- RETURNS ok | moved | recurring_not_found | no_namespace | newer_format
-- EVENTS  recurring:changed
-- REPEAT  by state
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = recurring_keys(t.prefix)
local key = keys.recurrence .. name
local h = call('HMGET', key, 'definition', 'paused', 'revision')
if not h[1] then return { 'recurring_not_found' } end
if revision ~= '' and revision ~= h[3] then return { 'moved' } end
touch('ZCARD', keys.due)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
if (paused == 1) ~= (h[2] == '1') then
  hput(t, key, 'paused', paused == 1 and '1')
  zput(t, keys.due, name, paused == 0 and next_ms > 0 and next_ms)
  fact(t, 'recurring:changed', '', name, paused == 1 and 'paused' or 'resumed', '', 0)
end
close(t)
return { 'ok' }
