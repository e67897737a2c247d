-- Cancelling a task: at once where nobody holds it, else by asking the holder.
-- include hold

-- Answers what became of it. With a fence the holder itself confirms.
local function cancel_or_ask(b, id, fence, reason)
  local t, r = b.t, load_record(b, id)
  if not r then return 'task_not_found' end
  if r[STATUS] == 'x' and (fence == '' or r[FENCE] == fence) then return 'cancelled' end
  if fence ~= '' and stale(r, fence) then return 'lease_lost' end
  if FINISHED[r[STATUS]] then return 'finished' end
  if HELD[r[STATUS]] and fence == '' then
    if not has(r, 'C') then
      flag(r, 'C')
      remember(b, id, r, 'reason', reason)
      save(b, id)
      fact(t, 'task:cancel_requested', b.name, id, WORDS[r[STATUS]], r[HOLDER], r[FENCE])
      if string.find(r[HOLDER], '/', 1, true) then t.bells[agent_bell(t.prefix, r[HOLDER])] = 'cancel' end
    end
    return 'requested'
  end
  leave(b, id, r)
  cancel_task(b, id, r, reason)
  return 'cancelled'
end
