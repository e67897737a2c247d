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
-- include hold

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
  local r = load_record(b, id)
  if not r then
    answers[i] = 'task_not_found'
  elseif r[STATUS] == 'x' and (fence == '' or r[FENCE] == fence) then
    answers[i] = 'cancelled'
  elseif fence ~= '' and stale(r, fence) then
    answers[i] = 'lease_lost'
  elseif FINISHED[r[STATUS]] then
    answers[i] = 'finished'
  elseif HELD[r[STATUS]] and fence == '' then
    if not has(r, 'C') then
      flag(r, 'C')
      remember(b, id, r, 'reason', reason)
      save(b, id)
      fact(t, 'task:cancel_requested', b.name, id, WORDS[r[STATUS]], r[HOLDER], r[FENCE])
      if string.find(r[HOLDER], '/', 1, true) then t.bells[agent_bell(t.prefix, r[HOLDER])] = 'cancel' end
    end
    answers[i] = 'requested'
  else
    leave(b, id, r)
    cancel_task(b, id, r, reason)
    answers[i] = 'cancelled'
  end
end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
