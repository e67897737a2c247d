-- Accept the results of tasks whose current fence is presented; each answers for itself.
--
-- A row is id, fence, result (JSON; empty for null).
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, count:int, results:rows
-- RETURNS ok more answers | no_namespace | newer_format
-- ITEMS   ok | replayed | lease_lost | task_not_found
-- EVENTS  task:completed, task:ready, task:assigned
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)

-- writes
t.by = instance
local answers = complete(b, ARGV, results_at, count)
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
