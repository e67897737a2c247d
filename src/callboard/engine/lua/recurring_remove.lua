-- Forget a recurring task; the tasks that it submitted stay.
--
-- KEYS    format
-- ARGV    name:str, by:str
-- RETURNS ok | recurring_not_found | no_namespace | newer_format
-- EVENTS  recurring:changed
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = recurring_keys(t.prefix)
local key = keys.recurrence .. name
if call('HEXISTS', key, 'definition') == 0 then return { 'recurring_not_found' } end
touch('ZCARD', keys.all)
touch('ZCARD', keys.due)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
call('DEL', key)
zput(t, keys.all, name, false)
zput(t, keys.due, name, false)
fact(t, 'recurring:changed', '', name, 'deleted', '', 0)
close(t)
return { 'ok' }
