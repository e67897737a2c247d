-- Record how a call ended that was permitted, which may open or close the breaker.
--
-- `outcome` is success, failure or ignored, which only frees the permit. One of a permit from
-- before the breaker last opened, or whose lease was over and its place given on, or that is
-- among the last hundred recorded, or was never given, is stale and changes nothing.
--
-- KEYS    format
-- ARGV    component:str, by:str, permit:int, outcome:str
-- RETURNS ok state | stale state | off | no_namespace | newer_format
-- EVENTS  circuitbreaker:state-change
-- FLAGS   allow-oom
-- include breaker

local t, refusal = open(format_key, now)
if not t then return refusal end
local k = breakers.fetch(t, component)
if k.is_new then return { 'off' } end
if not breakers.is_first(k, permit) then return { 'stale', k.state } end

-- writes
t.by = by
local is_counted = breakers.record(k, permit, outcome)
close(t)
return { is_counted and 'ok' or 'stale', k.state } -- an outcome
