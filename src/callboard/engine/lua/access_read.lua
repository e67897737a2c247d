-- What is known of an API key, revoked or not, and what time it is.
--
-- KEYS    format
-- ARGV    id:str
-- RETURNS ok now_ms value revoked used | api_key_not_found | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = access_keys(t.prefix)
local value = call('HGET', keys.keys, id)
if not value then return { 'api_key_not_found' } end
return { 'ok', t.ms, value, call('HGET', keys.revoked, id) or '', call('HGET', keys.used, id) or '' }
