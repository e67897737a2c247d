-- A page of the inboxes there are, each with its counts, those to be swept first before others.
--
-- Seven values each: agent, waiting, delayed, taken, dead, finished, its bound.
--
-- KEYS    format
-- ARGV    offset:int, limit:int
-- RETURNS ok now_ms total inboxes | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local all = message_keys(t.prefix, '').all
local agents, found = call('ZRANGE', all, offset, offset + limit - 1), {}
for i = 1, #agents do
  local keys, n = message_keys(t.prefix, agents[i]), #found
  found[n + 1] = agents[i]
  found[n + 2], found[n + 3] = call('ZCARD', keys.waiting), call('ZCARD', keys.delayed)
  found[n + 4], found[n + 5] = call('ZCARD', keys.leases), call('ZCARD', keys.dead)
  found[n + 6] = call('ZCARD', keys.finished)
  found[n + 7] = tonumber(call('HGET', keys.state, '#limit') or MSG_LIMIT)
end
return { 'ok', t.ms, call('ZCARD', all), found }
