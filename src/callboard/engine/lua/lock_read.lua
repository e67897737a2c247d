-- Tell how resources stand: who holds them, and the first hundred in line for each.
--
-- KEYS    format
-- ARGV    count:int, names:rows
-- RETURNS ok now_ms resources | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include lock

local t, refusal = open(format_key, now)
if not t then return refusal end
local s, found = locks.of(t), {}
for i = 1, count do
  local name = ARGV[names_at + i - 1]
  local owners = call('ZRANGE', s.keys.queue .. name, 0, LOCK_QUEUE_SEEN - 1)
  local raws = #owners > 0 and call('HMGET', s.keys.waits, unpack_values(owners)) or {}
  local line = {}
  for k = 1, #owners do
    line[k * 2 - 1], line[k * 2] = owners[k], raws[k] or ''
  end
  found[i] = { name, call('HGETALL', s.keys.lock .. name), call('ZCARD', s.keys.queue .. name), line }
end
return { 'ok', t.ms, found }
