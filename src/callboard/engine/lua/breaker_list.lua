-- All breakers as of one moment, those first that were made or looked at longest ago.
--
-- KEYS    format
-- ARGV    start:int, count:int
-- RETURNS ok now_ms components fields | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include breaker

local t, refusal = open(format_key, now)
if not t then return refusal end
local components = call('ZRANGE', breaker_keys(t.prefix, '').all, start, start + count - 1)
local fields = {}
for i = 1, #components do
  fields[i] = redis.pcall('HGETALL', breaker_keys(t.prefix, components[i]).breaker)
  if fields[i].err then fields[i] = {} end -- somebody else's value is no breaker
end
return { 'ok', t.ms, components, fields }
