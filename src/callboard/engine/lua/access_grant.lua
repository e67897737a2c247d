-- Make a ticket that stands for an API key, once and for a short time.
--
-- `ticket` is the hash of what the holder shows.
--
-- KEYS    format
-- ARGV    ticket:str, id:str, lifetime_ms:int
-- RETURNS ok | api_key_not_found | no_namespace | newer_format
-- EVENTS  none: it is gone within a minute
-- REPEAT  by state
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = access_keys(t.prefix)
if call('HEXISTS', keys.keys, id) == 0 then return { 'api_key_not_found' } end
touch('STRLEN', keys.ticket .. ticket)

-- writes
call('SET', keys.ticket .. ticket, id, 'PX', lifetime_ms)
close(t)
return { 'ok' }
