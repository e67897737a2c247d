-- Free the holder's slot while it waits, keeping its lease; or take the slot again.
--
-- `parked` is 1 or 0. Taking the slot again is never refused, so that a waiting parent can
-- always finish: the agent, and the board, may stand over their limits until it does.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, id:str, fence:str, parked:int
-- RETURNS ok | lease_lost | task_not_found | no_namespace | newer_format
-- EVENTS  none: waiting is the holder's own affair
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

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

-- writes
t.by = instance
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
finish(t)
return { 'ok' }
