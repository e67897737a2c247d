-- Remove a component's breaker: from here on all calls may be made.
--
-- KEYS    format
-- ARGV    component:str, by:str
-- RETURNS ok | breaker_not_found | no_namespace | newer_format
-- EVENTS  circuitbreaker:removed
-- FLAGS   allow-oom
-- include breaker

local t, refusal = open(format_key, now)
if not t then return refusal end
local k = breakers.fetch(t, component, true)
if k.is_new then return { 'breaker_not_found' } end

-- writes
t.by = by
call('DEL', k.keys.breaker)
call('SREM', k.keys.gates, component)
zput(t, k.keys.all, component, false)
hput(t, t.key, 'gated', call('SCARD', k.keys.gates) > 0 and '1' or false)
fact(t, 'circuitbreaker:removed', '', component, 'removed', '', 0)
close(t)
return { 'ok' }
