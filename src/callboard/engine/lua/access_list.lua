-- What is known of all API keys, at most 1,000, and what time it is.
--
-- KEYS    format
-- ARGV
-- RETURNS ok now_ms keys | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = access_keys(t.prefix)
local rows, reply = call('HGETALL', keys.keys), { 'ok', t.ms }
for i = 1, #rows, 2 do
  local id = rows[i]
  reply[#reply + 1] = { id, rows[i + 1], call('HGET', keys.revoked, id) or '', call('HGET', keys.used, id) or '' }
end
return reply
