-- Put failed or cancelled tasks back on the board with fresh budgets, and revive what
-- ended for their sake. One that would end again for a dependency that has ended without
-- success stays as it is: that one has to be put back first.
--
-- A row is id, body (JSON; empty: as it was), payload (where it is kept beside the body).
--
-- KEYS    format
-- ARGV    board_name:str, by:str, count:int, tasks:rows
-- RETURNS ok more answers | no_namespace | newer_format
-- ITEMS   ok | blocked | task_not_found | illegal_state | unique_conflict | dependency_failed
-- EVENTS  task:revived, task:edited, task:ready, task:assigned
-- include revive

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)

-- writes
t.by = by
t.cascade = {}
local answers = {}
for i = 1, count do
  local at = tasks_at + (i - 1) * 3
  local id, body, payload = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  answers[i] = revive(b, id, body, payload, i)
end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
