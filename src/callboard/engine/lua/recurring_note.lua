-- Keep why the tick of a recurring task that has come cannot be fired, until one is.
--
-- The same reason as before, by its code, is left alone.
--
-- KEYS    format
-- ARGV    name:str, code:str, text:str
-- RETURNS ok | same | recurring_not_found | no_namespace | newer_format
-- EVENTS  none: it is tried again at each sweep
-- REPEAT  by state
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local key = recurring_keys(t.prefix).recurrence .. name
local h = call('HMGET', key, 'definition', 'last_error_code')
if not h[1] then return { 'recurring_not_found' } end
if h[2] == code then return { 'same' } end

-- writes
hput(t, key, 'last_error', text)
hput(t, key, 'last_error_code', code)
close(t)
return { 'ok' }
