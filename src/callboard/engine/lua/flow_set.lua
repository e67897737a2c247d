-- Set what holds for a key of tasks, or for all keys that begin alike; what is empty stays.
--
-- `key` ends with * where it stands for all that begin so. `concurrency` is a number, or u
-- for no limit; so is `interval`, us between two claims, with its burst; `paused` is 1 or 0;
-- `weight` a number. Those who wait for the key are woken. A rate that holds anew counts what
-- was claimed before for no more than its own burst.
--
-- KEYS    format
-- ARGV    key:str, by:str, concurrency:str, interval:str, burst:str, paused:str, weight:str
-- RETURNS ok | too_many_keys limit | no_namespace | newer_format
-- EVENTS  flow:changed
-- REPEAT  by state
-- FLAGS   allow-oom
-- include place

local FLOW_KEYS_MOST, FLOW_PATTERNS_MOST = 10000, 100
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = flow.keys(t)
local is_pattern = string.sub(key, -1) == '*'
local place, most = keys.limits, FLOW_KEYS_MOST
if is_pattern then place, most = keys.patterns, FLOW_PATTERNS_MOST end
local raw = call('HGET', place, key)
if not raw and call('HLEN', place) >= most then return { 'too_many_keys', most } end
touch('HLEN', keys.limits)
touch('HLEN', keys.patterns)
touch('ZCARD', keys.rates)
flow.touch_key(t, key)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
local set = flow.read(raw)
local fields = {
  concurrency ~= '' and concurrency or set.concurrency or '', interval ~= '' and interval or set.interval or '',
  burst ~= '' and burst or set.burst or '', paused ~= '' and paused or set.paused or '',
  weight ~= '' and weight or set.weight or '',
}
-- A key that goes on, and that nothing is set for, needs no line.
local patterns = call('HLEN', keys.patterns) - (is_pattern and raw and 1 or 0)
if fields[4] == '0' and patterns == 0 then fields[4] = '' end
local line = concat(fields, '|')
if line == '||||' then
  call('HDEL', place, key)
else
  call('HSET', place, key, line)
end
t.limited = call('HLEN', keys.limits) + call('HLEN', keys.patterns) > 0
call('HSET', format_key, 'limited', t.limited and '1' or '0')
t.flow_settings, t.flow_patterns = nil, nil
if not is_pattern then flow.shorten(t, key, flow.settings(t, key)) end
fact(t, 'flow:changed', '', key, line == '||||' and 'removed' or 'set', '', 0, line)
flow.wake_later(t, key)
finish(t)
return { 'ok' }
