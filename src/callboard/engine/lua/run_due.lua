-- The runs that something is to be done about, the longest due first: those that have been
-- kept for as long as they should be after their end, and those whose time is over and that
-- nobody has ended.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok runs | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local reply = call('ZRANGEBYSCORE', run_keys(t.prefix, '').due, '-inf', t.ms, 'LIMIT', 0, limit)
table.insert(reply, 1, 'ok')
return reply
