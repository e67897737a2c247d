-- Remove a board on which nothing is unfinished, with all that belonged to its tasks.
--
-- At most `limit` tasks a call; `more` asks for another, once what is queued for the board's
-- dependents was worked off. Nothing is remembered: neither ids nor how the tasks had ended,
-- nor the board's settings, nor its journal.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, limit:int
-- RETURNS ok more | unfinished count | board_not_found | no_namespace | newer_format
-- EVENTS  task:purged, board:removed
-- FLAGS   allow-oom
-- include purge, errors

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
if b.is_new then return { 'board_not_found' } end
local keys = b.keys
local unfinished = call('HLEN', keys.state)
for _, status in ipairs({ 'done', 'failed', 'cancelled' }) do
  unfinished = unfinished - call('ZCARD', keys[status])
end
if unfinished > 0 then return { 'unfinished', unfinished } end
touch_board(b)

-- writes
t.by = by
local left = limit
for _, status in ipairs({ 'done', 'failed', 'cancelled' }) do
  local ids = left > 0 and call('ZRANGE', keys[status], 0, left - 1) or {}
  for i = 1, #ids do
    if purge(b, ids[i]) == 'ok' then
      hput(t, keys.outcomes, ids[i], false)
      zput(t, keys.outcome_times, ids[i], false)
      call('DEL', errors.details_of(error_keys(t.prefix), b.name, ids[i]))
      left = left - 1
    end
  end
end
settle(t)
local is_done = call('HLEN', keys.state) == 0
if is_done then
  call('UNLINK', keys.tasks, keys.retry, keys.dead)
  for field, suffix in pairs(BOARD_KEYS) do
    if string.sub(suffix, -1) ~= ':' then call('UNLINK', keys[field]) end -- else one a task
  end
  b.has_journal = false
  t.bells[board_bell(t.prefix, b.name)] = 'removed'
  zput(t, boards_key(t.prefix), b.name, false)
  zput(t, boards_due_key(t.prefix), b.name, false)
  fact(t, 'board:removed', b.name, '', 'removed', '', 0)
end
finish(t)
return { 'ok', is_done and '' or 'more' }
