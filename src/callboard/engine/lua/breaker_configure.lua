-- Give a component a breaker with this policy, or its breaker another policy.
--
-- Its state stays. It is kept until it is removed. With `gates` 1 it gates the claims of an
-- agent (`agent:{id}`) or of a kind of task (`kind:{name}`); with 0 their probes are given up.
--
-- KEYS    format
-- ARGV    component:str, by:str, policy:str, gates:int
-- RETURNS ok is_new | no_namespace | newer_format
-- EVENTS  circuitbreaker:changed
-- REPEAT  by state
-- include breaker

local t, refusal = open(format_key, now)
if not t then return refusal end
local k = breakers.fetch(t, component, true)

-- writes
t.by = by
breakers.set_policy(k, policy)
breakers.set_gates(k, gates == 1)
local key = k.keys.breaker
hput(t, key, 'state', k.state)
hput(t, key, 'policy', policy)
hput(t, key, 'kept', '1')
hput(t, key, 'used_at', t.ms)
hput(t, key, 'window', false)
zput(t, k.keys.all, component, t.ms)
call(gates == 1 and 'SADD' or 'SREM', k.keys.gates, component)
hput(t, t.key, 'gated', call('SCARD', k.keys.gates) > 0 and '1' or false)
fact(t, 'circuitbreaker:changed', '', component, k.state, '', 0, policy .. '|' .. gates)
close(t)
return { 'ok', k.is_new and 1 or 0 }
