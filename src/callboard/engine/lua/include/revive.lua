-- Putting a failed or cancelled task back on its board.
-- include hold

-- With fresh budgets; answers what became of it. `body` is empty where it stays as it was,
-- `index` keeps the order within one call.
local function revive(b, id, body, payload, index)
  local t, r = b.t, load_record(b, id)
  local key = r and has(r, 'U') and recall(b, id, 'unique')
  if not r then return 'task_not_found' end
  if r[STATUS] ~= 'f' and r[STATUS] ~= 'x' then return 'illegal_state' end
  if key and (holder_of_key(b, key) or id) ~= id then return 'unique_conflict' end
  if failed_need(b, id, r) then return 'dependency_failed' end
  local answer = 'ok'
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
    answer = 'blocked'
  else
    make_ready(b, id, r, index)
  end
  save(b, id)
  if body ~= '' then fact(t, 'task:edited', b.name, id, WORDS[r[STATUS]], r[HOLDER], r[FENCE]) end
  if has(r, 'D') then t.cascade[#t.cascade + 1] = { b = b, id = id, from = 0 } end
  return answer
end
