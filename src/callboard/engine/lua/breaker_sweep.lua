-- Forget breakers that nobody configured, isolated or used for seven days, a piece at a time.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok more | no_namespace | newer_format
-- EVENTS  circuitbreaker:removed
-- REPEAT  by state
-- FLAGS   allow-oom
-- include breaker

local t, refusal = open(format_key, now)
if not t then return refusal end
local all = breaker_keys(t.prefix, '').all
local before = t.ms - BREAKER_UNUSED_MS
local components = call('ZRANGEBYSCORE', all, '-inf', before, 'LIMIT', 0, limit)
if #components == 0 then return { 'ok', 0 } end
touch('XLEN', events_key(t.prefix))
local used = {}
for i = 1, #components do
  local key = breaker_keys(t.prefix, components[i]).breaker
  local h = redis.pcall('HMGET', key, 'kept', 'isolated', 'used_at')
  -- Somebody else's value under a breaker's name must not stop the sweep of the others.
  if not h.err then used[i] = (h[1] or h[2]) and t.ms or tonumber(h[3]) or 0 end
end

-- writes
t.by = 'janitor'
for i = 1, #components do
  if used[i] and used[i] > before then
    zput(t, all, components[i], used[i]) -- looked at again in seven days
  else
    if used[i] then call('DEL', breaker_keys(t.prefix, components[i]).breaker) end
    zput(t, all, components[i], false)
    fact(t, 'circuitbreaker:removed', '', components[i], 'removed', '', 0)
  end
end
close(t)
return { 'ok', #components == limit and 1 or 0 }
