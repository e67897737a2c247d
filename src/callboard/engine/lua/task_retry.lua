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
-- include hold

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
  local r = load_record(b, id)
  local key = r and has(r, 'U') and recall(b, id, 'unique')
  if not r then
    answers[i] = 'task_not_found'
  elseif r[STATUS] ~= 'f' and r[STATUS] ~= 'x' then
    answers[i] = 'illegal_state'
  elseif key and (holder_of_key(b, key) or id) ~= id then
    answers[i] = 'unique_conflict'
  elseif failed_need(b, id, r) then
    answers[i] = 'dependency_failed'
  else
    wake_board(b)
    leave(b, id, r)
    if key then hput(t, b.keys.unique, key, id) end
    if body ~= '' then
      hput(t, b.keys.tasks, id, body)
      if payload ~= '' then
        call('SET', b.keys.payload .. id, payload)
        flag(r, 'L')
      elseif has(r, 'L') then
        call('DEL', b.keys.payload .. id)
        unflag(r, 'L')
      end
    end
    local extra = b.keys.extra .. id
    for _, field in ipairs({ 'cause', 'error', 'reason', 'deadline' }) do hput(t, extra, field, false) end
    if has(r, 'X') then zput(t, b.keys.deadlines, id, false) end
    unflag(r, 'X')
    unflag(r, 'C')
    unflag(r, 'Z')
    r[FAILURES], r[CRASHES], r[CRASHED], r[HOLDER], r[SCORE] = '0', '0', '', '', ''
    r[SINCE] = tostring(t.ms)
    local needs = has(r, 'N') and needs_again(b, id, r) or 0
    fact(t, 'task:revived', b.name, id, needs > 0 and 'blocked' or 'pending', '', r[FENCE])
    if needs > 0 then
      r[STATUS] = 'b'
      zput(t, b.keys.blocked, id, t.ms)
      answers[i] = 'blocked'
    else
      make_ready(b, id, r, i)
      answers[i] = 'ok'
    end
    save(b, id)
    if body ~= '' then fact(t, 'task:edited', b.name, id, WORDS[r[STATUS]], r[HOLDER], r[FENCE]) end
    if has(r, 'D') then t.cascade[#t.cascade + 1] = { b = b, id = id, from = 0 } end
  end
end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
