-- Remove finished tasks and all that belongs to them, keeping id and outcome.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, count:int, ids:rows
-- RETURNS ok answers | no_namespace | newer_format
-- ITEMS   ok | task_not_found | illegal_state
-- EVENTS  task:purged
-- FLAGS   allow-oom
-- include purge

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)

-- writes
t.by = by
local answers = {}
for i = 1, count do answers[i] = purge(b, ARGV[ids_at + i - 1]) end
finish(t)
return { 'ok', concat(answers, ',') }
