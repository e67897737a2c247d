-- Cancel tasks: at once where nobody holds them, else by asking the holder.
--
-- With a fence the holder itself confirms. A row is id, fence (empty: any caller).
--
-- KEYS    format
-- ARGV    board_name:str, by:str, reason:str, count:int, tasks:rows
-- RETURNS ok more answers | no_namespace | newer_format
-- ITEMS   cancelled | requested | finished | lease_lost | task_not_found
-- EVENTS  task:cancelled, task:cancel_requested, task:ready
-- REPEAT  by state
-- FLAGS   allow-oom
-- include cancel

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)
local ids = {}
for i = 1, count do ids[i] = ARGV[tasks_at + (i - 1) * 2] end
touch_holders(b, ids)

-- writes
t.by = by
local answers = {}
for i = 1, count do
  local id, fence = ARGV[tasks_at + (i - 1) * 2], ARGV[tasks_at + (i - 1) * 2 + 1]
  answers[i] = cancel_or_ask(b, id, fence, reason)
end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
