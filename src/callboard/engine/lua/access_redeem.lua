-- Take a ticket and say which API key it stands for; there is none the second time.
--
-- KEYS    format
-- ARGV    ticket:str
-- RETURNS ok id | ticket_not_found | no_namespace | newer_format
-- EVENTS  none: a ticket is no news
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local key = access_keys(t.prefix).ticket .. ticket
local id = call('GET', key)
if not id then return { 'ticket_not_found' } end

-- writes
call('DEL', key)
close(t)
return { 'ok', id }
