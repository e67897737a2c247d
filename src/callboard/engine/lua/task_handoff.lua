-- Give a claim to a named agent: reserved for it, no failure or crash counted.
--
-- Where it is not taken up in time it goes to its lane, as any reservation. One that was
-- pushed, and is handed on again and again, waits before it is pushed again.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, id:str, fence:str, to_agent:str, take_up_ms:int
-- RETURNS ok | replayed | cancel_requested | lease_lost | task_not_found | agent_not_found | agent_draining status | does_not_fit missing | no_namespace | newer_format
-- EVENTS  task:assigned
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
local no = stale(r, fence)
if no == 'lease_lost' and r[FENCE] == fence and r[STATUS] == 'a' and r[HOLDER] == to_agent then
  return { 'replayed' }
end
if no then return { no } end
if has(r, 'C') then return { 'cancel_requested' } end
local agent = load_agent(t, to_agent)
if not agent then return { 'agent_not_found' } end
if not takes_work(agent) then return { 'agent_draining', agent.status } end
if not serves(agent, r[LANE]) then
  return { 'does_not_fit', concat(missing_for(agent.profile, r[LANE]), ', ') }
end
touch_board(b)
touch_holders(b, { id })

-- writes
t.by = instance
leave(b, id, r)
turned_down.by_holder(b, id, r)
reserve(b, id, r, to_agent, t.ms + take_up_ms, 'R')
local waiters = waiters_of(b)
for i = 1, #waiters do
  if waiters[i].id == to_agent then ring(b, waiters[i], id) end
end
save(b, id)
finish(t)
return { 'ok' }
