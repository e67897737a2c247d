-- Put a breaker into a state by hand, and make what is under way of no account.
--
-- `to` is open, half-open, closed, isolated (open until it is put elsewhere, also where
-- nobody configured one), or reset (closed, all counts zero). `said` is the reason as JSON.
--
-- KEYS    format
-- ARGV    component:str, by:str, to:str, reason:str, said:str
-- RETURNS ok from | breaker_not_found | no_namespace | newer_format
-- EVENTS  circuitbreaker:state-change, circuitbreaker:changed, circuitbreaker:removed
-- REPEAT  by state
-- FLAGS   allow-oom
-- include breaker

local COUNTS = { 'total', 'rejected', 'last_failure_at', 'last_success_at' }
local t, refusal = open(format_key, now)
if not t then return refusal end
local k = breakers.fetch(t, component, true)
if k.is_new and to ~= 'isolated' then return { 'breaker_not_found' } end

-- writes
t.by = by
local key, from = k.keys.breaker, k.isolated and 'isolated' or k.state
local state = to == 'isolated' and 'open' or to == 'reset' and 'closed' or to
k.isolated = to == 'isolated'
k.generation = take_fences(t, 1)
hput(t, key, 'isolated', k.isolated and '1' or false)
hput(t, key, 'reason', k.isolated and reason or false)
hput(t, key, 'generation', int(k.generation))
hput(t, key, 'used_at', t.ms)
if k.is_new then zput(t, k.keys.all, component, t.ms) end
if k.state == state then fact(t, 'circuitbreaker:changed', '', component, state, '', 0, to .. '|' .. (string.gsub(reason, '%c', ' '))) end
breakers.move(k, state, reason, said)
if to == 'reset' then
  for i = 1, #COUNTS do hput(t, key, COUNTS[i], false) end
end
if not k.isolated and not call('HGET', key, 'policy') then
  t.hashes[key] = nil -- it was there to isolate the component, and for nothing else
  call('DEL', key)
  zput(t, k.keys.all, component, false)
  fact(t, 'circuitbreaker:removed', '', component, 'removed', '', 0)
end
close(t)
return { 'ok', from }
