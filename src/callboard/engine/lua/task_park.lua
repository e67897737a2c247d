-- Free the holder's slot while it waits, keeping its lease; or take the slot again.
--
-- `parked` is 1 or 0. Taking the slot again is never refused, so that a waiting parent can
-- always finish: the agent, and the board, may stand over their limits until it does. With a
-- task to wait for, the wait is an edge of the wait-for graph: where it closes a cycle, and
-- this claim is the victim, it is not parked.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, id:str, fence:str, parked:int, for_board:str, for_task:str, bell:str
-- RETURNS ok | deadlock_victim incident | lease_lost | task_not_found | no_namespace | newer_format
-- EVENTS  deadlock:detected, resource:released, resource:acquired
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold, waits

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
local no = stale(r, fence)
if no then return { no } end
local agent, member = agent_of(r), b.name .. ':' .. id
touch('ZCARD', held_key(t.prefix, agent))
touch('ZCARD', parked_key(t.prefix, agent))
touch('ZCARD', b.keys.parked)
local owner, is_watched = locks.claim_owner(b.name, id, fence), (for_task or '') ~= ''
if is_watched or has(r, 'K') then waits.touch(t, owner) end

-- writes
t.by = instance
if parked == 1 and is_watched then
  flag(r, 'K')
  local incident = waits.park(t, owner, for_board, for_task, r[PRIORITY], bell)
  if incident then
    waits.told(t, owner)
    save(b, id)
    locks.wake(t)
    locks.flush(t)
    finish(t)
    return { 'deadlock_victim', incident } -- an outcome
  end
elseif has(r, 'K') then
  waits.unpark(t, owner)
end
if parked == 1 then
  if not has(r, 'W') then b.held, b.has_left = b.held - 1, true end
  flag(r, 'W')
  zput(t, b.keys.parked, id, t.ms)
  zput(t, held_key(t.prefix, agent), member, false)
  zput(t, parked_key(t.prefix, agent), member, fence)
else
  unflag(r, 'W')
  zput(t, b.keys.parked, id, false)
  zput(t, parked_key(t.prefix, agent), member, false)
  zput(t, held_key(t.prefix, agent), member, fence)
end
save(b, id)
if is_watched then
  locks.wake(t)
  locks.flush(t)
end
finish(t)
return { 'ok' }
