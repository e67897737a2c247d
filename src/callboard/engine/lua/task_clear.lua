-- Cancel tasks that wait to be claimed and whose priority is from `low` to `high`.
--
-- What was given to somebody meanwhile, or has another priority by now, stays as it is.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, reason:str, low:int, high:int, count:int, tasks:rows
-- RETURNS ok more answers | no_namespace | newer_format
-- ITEMS   cancelled | not_waiting | task_not_found
-- EVENTS  task:cancelled, task:ready
-- REPEAT  by state
-- FLAGS   allow-oom
-- include cancel

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)
local ids, answers = {}, {}
for i = 1, count do ids[i] = ARGV[tasks_at + i - 1] end
load_records(b, ids)

-- writes
t.by = by
for i = 1, count do
  local id = ids[i]
  local r = load_record(b, id)
  local priority = r and tonumber(r[PRIORITY])
  if not r then
    answers[i] = 'task_not_found'
  elseif (r[STATUS] == 'p' or r[STATUS] == 'x') and priority >= low and priority <= high then
    answers[i] = cancel_or_ask(b, id, '', reason)
  else
    answers[i] = 'not_waiting'
  end
end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
