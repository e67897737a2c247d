-- How many messages of an inbox wait, are delayed, taken, dead and finished, its bound, and
-- how many broadcasts its agent has not read.
--
-- KEYS    format
-- ARGV    agent:str
-- RETURNS ok now_ms counts | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = message_keys(t.prefix, agent)
local limit = call('HGET', keys.state, '#limit')
local last = tonumber(call('HGET', keys.cursors, '#last') or 0)
local cursor = messages.cursor(t, agent)
return { 'ok', t.ms, {
  call('ZCARD', keys.waiting), call('ZCARD', keys.delayed), call('ZCARD', keys.leases),
  call('ZCARD', keys.dead), call('ZCARD', keys.finished), tonumber(limit) or MSG_LIMIT,
  math.max(last - cursor.n, 0),
} }
