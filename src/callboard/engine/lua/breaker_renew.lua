-- Push the deadline of a half-open breaker's permit forward, if it is still out.
--
-- Permits of a closed breaker have no deadline. `permit_ms` 0: as the policy says.
--
-- KEYS    format
-- ARGV    component:str, permit:int, permit_ms:int
-- RETURNS ok lease_ms | lease_lost | off | no_namespace | newer_format
-- EVENTS  none: a renewal is not news
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include breaker

local t, refusal = open(format_key, now)
if not t then return refusal end
local k = breakers.fetch(t, component)
if k.is_new then return { 'off' } end
local lease = permit_ms > 0 and permit_ms or k.permit_ms
if not breakers.renew(k, permit, t.ms + lease) then return { 'lease_lost' } end

-- writes
close(t)
return { 'ok', lease }
