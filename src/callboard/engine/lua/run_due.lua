-- The runs that something is to be done about, the longest due first: those that have been
-- kept for as long as they should be after their end, and those whose time is over and that
-- nobody has ended. Each is due again in a minute, unless it is done by then: so those that
-- cannot be done keep no other waiting.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok runs | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   allow-oom
-- include open

local AGAIN_MS = 60000

local t, refusal = open(format_key, now)
if not t then return refusal end
local key = run_keys(t.prefix, '').due
local reply = call('ZRANGEBYSCORE', key, '-inf', t.ms, 'LIMIT', 0, limit)

-- writes
for i = 1, #reply do zput(t, key, reply[i], t.ms + AGAIN_MS) end
finish(t)
table.insert(reply, 1, 'ok')
return reply
