-- Take up reservations that a bell named: granted where they still stand for this agent.
--
-- Cheaper than a claim, which looks for work: this looks at the named tasks alone. What went
-- elsewhere is left out, and so is what the board's limits, or the task's keys, have no room for. A call whose reply was lost is made again with `repeated` 1: what
-- this instance holds already is answered then too. `wants` more are waited for.
--
-- KEYS    format
-- ARGV    board_name:str, agent_id:str, instance:str, lease_ms:int, wants:int, wait_ms:int, repeated:int, count:int, ids:rows
-- RETURNS ok tasks | empty | paused closed | no_namespace | newer_format
-- EVENTS  task:claimed
-- FLAGS   allow-oom
-- include claim

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
if b.paused then return { 'paused', b.closed and 'closed' or '' } end
local reserved, again, holder = nothing_taken(), nothing_taken(), agent_id .. '/' .. instance
local room = room_of(b)
if t.gated then room = math.min(room, breakers.claims(t, agent_id)) end
for i = 1, count do
  local id = ARGV[ids_at + i - 1]
  local r = load_record(b, id)
  if r and r[STATUS] == 'a' and r[HOLDER] == agent_id and not kind_paused(b, r[LANE])
    and #reserved.ids < room and flow.admit(t, r[LANE], false) then
    take(reserved, id, r[SCORE], false)
    if t.gated then breakers.choose(t, r[LANE], 1) end
  elseif repeated == 1 and r and HELD[r[STATUS]] and r[HOLDER] == holder then
    take(again, id, '', false)
  end
end
touch_usual(b)
touch('ZCARD', held_key(t.prefix, agent_id))
touch('ZCARD', reserved_key(t.prefix, agent_id))
if #reserved.ids > 0 then load_taken(b, reserved) end
if #again.ids > 0 then load_taken(b, again) end

-- writes
t.by = holder
beat(t, agent_id, instance)
local reply = { 'ok', '' }
if #reserved.ids > 0 then
  grant(b, { id = agent_id, held = 0 }, instance, reserved, #reserved.ids, lease_ms, reply)
end
append_held(b, again, reply)
if #reply == 2 then reply[1] = 'empty' end
wait_for_bell(b, { id = agent_id }, instance, wants, wait_ms)
finish(t)
return reply
