-- All that is kept of a component's breaker, and the engine's time.
--
-- KEYS    format
-- ARGV    component:str
-- RETURNS ok now_ms fields | breaker_not_found | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include breaker

local t, refusal = open(format_key, now)
if not t then return refusal end
local k = breakers.fetch(t, component)
if k.is_new then return { 'breaker_not_found' } end
return { 'ok', t.ms, call('HGETALL', k.keys.breaker) }
