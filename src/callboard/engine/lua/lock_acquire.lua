-- Give an owner all of these resources or none, or put it in line for the whole set.
--
-- `mode` is x (exclusive), s (shared) or p (a permit of a semaphore of `limit`). With wait_ms
-- 0 it is refused where something is in the way. A wait that closes a cycle is checked here:
-- the caller, or another, is the victim. Names come sorted and once each.
--
-- KEYS    format
-- ARGV    owner:str, agent:str, mode:str, limit:str, wait_ms:int, lease_ms:int, priority:int, bell:str, operation:str, count:int, names:rows
-- RETURNS ok now_ms deadline fences | waiting unfinished | deadlock_victim incident | lock_held resource owner agent until | lease_lost | lock_mismatch resource what value | too_many_locks most resource | already_waiting names | no_namespace | newer_format
-- EVENTS  resource:acquired, resource:released, deadlock:detected
-- REPEAT  by operation id
-- include waits

local t, refusal = open(format_key, now)
if not t then return refusal end
local set = {}
for i = 1, count do set[i] = ARGV[names_at + i - 1] end
local w = {
  owner = owner, state = 'w', mode = mode, limit = tonumber(limit), priority = priority, since = t.now,
  score = t.now - priority * LOCK_PRIORITY_US, deadline = t.ms + wait_ms, lease = lease_ms, bell = bell,
  op = operation, agent = agent, fence = '', set = set, names = concat(set, ','),
}
local s = locks.of(t)
local board_name, id, fence = locks.claim_of(owner)
local b = board_name and board(t, board_name)
local r = b and load_record(b, id)
if b and not (r and r[FENCE] == fence and HELD[r[STATUS]]) then return { 'lease_lost' } end
if b and w.agent == '' then w.agent = agent_of(r) end

local done, fences, until_ms = 0, {}, 0
for i = 1, count do
  local h = locks.holding(locks.resource(t, set[i]), owner)
  if h and h.op == operation and h.mark == '' then
    done, fences[i], until_ms = done + 1, h.fence, math.max(until_ms, h.deadline)
  end
end
if done == count then return { 'ok', t.ms, int(until_ms), concat(fences, ',') } end
local others = waits.of(t, owner)
local waiting = s.waits[owner]
if waiting and waiting.op == operation then return { 'waiting', '' } end
if waiting and (wait_ms > 0 or waiting.state == 'g') then return { 'already_waiting', waiting.names } end
for i = 1, count do
  local l = locks.resource(t, set[i])
  if locks.needs(l, owner, mode) == 'other' then
    return { 'lock_mismatch', l.name, 'mode', locks.modes[locks.holding(l, owner).mode] }
  end
  local awaited = waiting and string.find(',' .. waiting.names .. ',', ',' .. l.name .. ',', 1, true) and waiting.mode
  if awaited and awaited ~= mode and awaited ~= 'x' and mode ~= 'x' then
    return { 'lock_mismatch', l.name, 'mode', locks.modes[awaited] }
  end
  if mode == 'p' and l.limit and l.limit ~= w.limit then
    return { 'lock_mismatch', l.name, 'limit', l.limit }
  end
end
if call('HLEN', s.keys.owner .. owner) + count > LOCKS_HELD_MOST then
  return { 'too_many_locks', LOCKS_HELD_MOST, '' }
end
local overdue = locks.overdue(t, w)
if s.is_broad then return { 'too_many_locks', LOCK_OVERLAPS_MOST, s.is_broad } end
local held = #overdue == 0 and locks.in_the_way(t, w)
if held and wait_ms == 0 then return { 'lock_held', unpack_values(held) } end
if b then touch('HLEN', b.keys.state) end
-- What is granted to one that waits elsewhere meanwhile may close a cycle too.
local is_busy = waiting or others.task or #others.requests > 0
if held or is_busy then waits.touch(t) else locks.touch(t) end

-- writes
t.by = w.agent
for i = 1, #overdue do locks.drop(t, overdue[i][1], overdue[i][2], 'expired') end
if #overdue > 0 then
  locks.wake(t)
  held = locks.in_the_way(t, w)
end
if b and not has(r, 'K') and (not held or wait_ms > 0) then
  flag(r, 'K')
  save(b, id)
end
if not held then
  fences = locks.grant(t, w)
  if is_busy then waits.check(t, owner) end
  for i = 1, waiting and #waiting.set or 0 do s.freed[#s.freed + 1] = waiting.set[i] end -- its own turn may have come
  locks.close(t)
  return { 'ok', t.ms, int(t.ms + lease_ms), concat(fences, ',') }
end
if wait_ms == 0 then
  locks.close(t)
  return { 'lock_held', unpack_values(held) } -- an outcome
end
waits.begin(t, owner)
locks.enqueue(t, w)
local incident, is_unfinished = waits.second_upgrade(t, w), false
if not incident and waits.can_close(t, owner) then incident, is_unfinished = waits.check(t, owner) end
if incident then
  waits.told(t, owner)
  locks.close(t)
  return { 'deadlock_victim', incident } -- an outcome
end
locks.wake(t)
local taken = w.state == 'g' and locks.take_up(t, w)
locks.close(t)
if taken then return { 'ok', t.ms, int(t.ms + lease_ms), concat(taken, ',') } end
return { 'waiting', is_unfinished and 'unfinished' or '' } -- an outcome
