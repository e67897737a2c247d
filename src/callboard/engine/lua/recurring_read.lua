-- Recurring tasks by name, or, where `due_most` is not 0, those whose tick has come, the most
-- overdue first, without the first `due_from` of them.
--
-- Each answers: name, its next tick in ms (0: none), the fields of its hash; none of these
-- where there is no such task.
--
-- KEYS    format
-- ARGV    due_from:int, due_most:int, count:int, names:rows
-- RETURNS ok now_ms tasks | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, wanted = recurring_keys(t.prefix), {}
for i = 1, count do wanted[i] = ARGV[names_at + i - 1] end
if due_most > 0 then
  wanted = call('ZRANGEBYSCORE', keys.due, '-inf', t.ms, 'LIMIT', due_from, due_most)
end
local reply = { 'ok', t.ms }
for i = 1, #wanted do
  reply[i + 2] = { wanted[i], call('ZSCORE', keys.due, wanted[i]) or '0',
    call('HGETALL', keys.recurrence .. wanted[i]) }
end
return reply
