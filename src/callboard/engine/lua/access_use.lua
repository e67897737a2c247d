-- Remember that an API key was used now.
--
-- KEYS    format
-- ARGV    id:str
-- RETURNS ok | api_key_not_found | no_namespace | newer_format
-- EVENTS  none: the use of a key is no news
-- REPEAT  by state
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = access_keys(t.prefix)
if call('HEXISTS', keys.keys, id) == 0 then return { 'api_key_not_found' } end

-- writes
hput(t, keys.used, id, t.ms)
close(t)
return { 'ok' }
