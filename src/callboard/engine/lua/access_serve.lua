-- Remember which namespaces coordinators serve, and tell all that are remembered.
--
-- The first `gone` names are forgotten. The others are remembered until nobody named them for
-- `kept_ms`, at most `most` of them: those named last, which also come first in the reply.
--
-- KEYS    format
-- ARGV    kept_ms:int, most:int, gone:int, names:rows
-- RETURNS ok names | no_namespace | newer_format
-- EVENTS  none: what a coordinator serves is no news
-- REPEAT  by state
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local served = access_keys(t.prefix).served
touch('ZCARD', served)

-- writes
for i = names_at, #ARGV do
  if i < names_at + gone then
    call('ZREM', served, ARGV[i])
  else
    call('ZADD', served, t.ms, ARGV[i])
  end
end
call('ZREMRANGEBYSCORE', served, '-inf', int(t.ms - kept_ms))
call('ZREMRANGEBYRANK', served, 0, -most - 1)
call('PEXPIRE', served, kept_ms)
close(t)
local names = call('ZREVRANGE', served, 0, most - 1)
local reply = { 'ok' }
for i = 1, #names do reply[i + 1] = names[i] end
return reply
