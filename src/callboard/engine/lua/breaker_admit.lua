-- Give a permit for one call, or say that the component's breaker is open.
--
-- A half-open breaker has at most as many permits out as its policy says, each with a lease
-- of `permit_ms` (0: as the policy says). Where there is no breaker one is made with `policy`,
-- forgotten after seven days without use; without a policy all calls may be made.
--
-- KEYS    format
-- ARGV    component:str, by:str, permit_ms:int, policy:str
-- RETURNS ok permit state lease_ms | rejected component state retry_ms probes | off | no_namespace | newer_format
-- EVENTS  circuitbreaker:state-change
-- FLAGS   allow-oom
-- include breaker

local t, refusal = open(format_key, now)
if not t then return refusal end
local k = breakers.fetch(t, component, policy ~= '')
if k.is_new and policy == '' then return { 'off' } end

-- writes
t.by = by
if k.is_new then
  breakers.set_policy(k, policy)
  hput(t, k.keys.breaker, 'state', k.state)
  hput(t, k.keys.breaker, 'policy', policy)
  zput(t, k.keys.all, component, t.ms)
end
if breakers.room(k) < 1 then
  hput(t, k.keys.breaker, 'rejected', int(k.rejected + 1))
  hput(t, k.keys.breaker, 'used_at', t.ms)
  close(t)
  return { 'rejected', component, k.state, breakers.retry_ms(k), #k.probes } -- an outcome
end
local permit, lease = take_fences(t, 1), permit_ms > 0 and permit_ms or k.permit_ms
breakers.admit(k, permit, t.ms + lease)
close(t)
return { 'ok', int(permit), k.state, k.state == 'half-open' and lease or 0 }
