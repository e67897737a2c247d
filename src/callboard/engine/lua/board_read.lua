-- A board's settings and its counts, all taken from the structures that hold the tasks.
--
-- Counts: unfinished and finished by status, lanes, waiters, unknown references.
--
-- KEYS    format
-- ARGV    board_name:str
-- RETURNS ok now_ms counts settings | board_not_found | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include record

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
if b.is_new then return { 'board_not_found' } end
local keys = b.keys
local blocked, input, reserved = call('ZCARD', keys.blocked), call('ZCARD', keys.input), call('ZCARD', keys.reserved)
local scheduled, retrying = call('ZCARD', keys.scheduled), call('ZCARD', keys.retry)
local held = call('ZCARD', keys.leases)
local done, failed, cancelled = call('ZCARD', keys.done), call('ZCARD', keys.failed), call('ZCARD', keys.cancelled)
local all = call('HLEN', keys.state)
local pending = all - blocked - input - reserved - scheduled - retrying - held - done - failed - cancelled
local settings = call('HGETALL', keys.board)
local oldest = call('ZRANGE', keys.heads, 0, 0, 'WITHSCORES')
return { 'ok', t.ms, {
  'total', all, 'blocked', blocked, 'scheduled', scheduled, 'retrying', retrying, 'pending', pending,
  'assigned', reserved, 'held', held, 'input_required', input, 'done', done, 'failed', failed,
  'cancelled', cancelled, 'dead_letters', call('ZCARD', keys.dead), 'lanes', call('ZCARD', keys.heads),
  'waiters', call('ZCOUNT', keys.waiters, t.ms, '+inf'), 'unresolved', call('ZCARD', keys.unresolved),
  'namespace_paused', t.paused and 1 or 0, 'best_score', oldest[2] or '0',
}, settings }
