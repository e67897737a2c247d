-- Take back all that was set for a key, or for all keys that begin alike.
--
-- What runs keeps its slots, which count again where a limit is set anew; what was claimed by
-- its rate is forgotten.
--
-- KEYS    format
-- ARGV    key:str, by:str
-- RETURNS ok | flow_key_not_found | no_namespace | newer_format
-- EVENTS  flow:changed
-- FLAGS   allow-oom
-- include place

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = flow.keys(t)
local place = string.sub(key, -1) == '*' and keys.patterns or keys.limits
if call('HEXISTS', place, key) == 0 then return { 'flow_key_not_found' } end
touch('HLEN', keys.limits)
touch('HLEN', keys.patterns)
touch('ZCARD', keys.rates)
flow.touch_key(t, key)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
call('HDEL', place, key)
t.limited = call('HLEN', keys.limits) + call('HLEN', keys.patterns) > 0
call('HSET', format_key, 'limited', t.limited and '1' or '0')
t.flow_settings, t.flow_patterns = nil, nil
zput(t, keys.rates, key, false)
fact(t, 'flow:changed', '', key, 'removed', '', 0, '||||')
flow.wake_later(t, key)
finish(t)
return { 'ok' }
