-- Change the priority of unfinished tasks, which moves those that wait in their lanes.
--
-- A row is id, priority.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, count:int, tasks:rows
-- RETURNS ok answers | no_namespace | newer_format
-- ITEMS   ok | task_not_found | illegal_state
-- EVENTS  task:moved
-- REPEAT  by state
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)

-- writes
t.by = by
local answers = {}
for i = 1, count do
  local id, priority = ARGV[tasks_at + (i - 1) * 2], ARGV[tasks_at + (i - 1) * 2 + 1]
  local r = load_record(b, id)
  if not r then
    answers[i] = 'task_not_found'
  elseif FINISHED[r[STATUS]] then
    answers[i] = 'illegal_state'
  else
    local moved = (tonumber(r[PRIORITY]) - tonumber(priority)) * b.step
    r[PRIORITY] = priority
    if r[STATUS] == 'p' then
      local key = b.keys.lane .. r[LANE]
      zput(t, key, id, int(tonumber(t.sets[key] and t.sets[key][id] or call('ZSCORE', key, id)) + moved))
      b.lanes[r[LANE]] = true
    elseif r[SCORE] ~= '' then
      r[SCORE] = int(tonumber(r[SCORE]) + moved)
      if r[STATUS] == 'a' then
        zput(t, reserved_key(t.prefix, r[HOLDER]), b.name .. ':' .. id, r[SCORE])
      end
    end
    save(b, id)
    fact(t, 'task:moved', b.name, id, WORDS[r[STATUS]], r[HOLDER], r[FENCE], priority)
    answers[i] = 'ok'
  end
end
finish(t)
return { 'ok', concat(answers, ',') }
