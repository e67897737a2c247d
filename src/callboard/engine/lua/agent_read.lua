-- Agents as they are now: one by its id, or those that have all of what is asked for.
--
-- Healthiest first, then by registration; at most 10,000 known agents are looked at. Six
-- values each: health, held, parked, reserved, the fields of the hash, the instances (id,
-- record, last heartbeat). Lists are comma-separated, empty for any.
--
-- KEYS    format
-- ARGV    agent_id:str, agent_type:str, status:str, capabilities:str, services:str, labels:str, tags:str, min_health:num, limit:int
-- RETURNS ok now_ms counts agents | agent_not_found | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include roster

local SEEN = 10000
local t, refusal = open(format_key, now)
if not t then return refusal end
local lane = ';' .. agent_type .. ';' .. capabilities .. ';' .. services .. ';' .. labels
local ids, found = { agent_id }, {}
if agent_id == '' then
  ids = limit > 0 and call('ZRANGE', agents_known_key(t.prefix), 0, SEEN - 1) or {}
end
local function wanted(profile, its_status, its_tags)
  if status ~= '' and status ~= its_status then return false end
  if lane ~= ';;;;' and not fits(profile, lane) then return false end
  local missing = {}
  lacks(tags, its_tags, 'tag', missing)
  return #missing == 0
end
for i = 1, #ids do
  -- Somebody else's value under our name is passed over in a list.
  local is_hash = agent_id ~= '' or call('TYPE', agent_key(t.prefix, ids[i])).ok == 'hash'
  local roster = is_hash and read_roster(t, ids[i], wanted)
  local health = roster and health_of(t, roster)
  if roster and health >= min_health then
    found[#found + 1] = { roster = roster, health = health, order = i }
  end
end
if agent_id ~= '' and #found == 0 then return { 'agent_not_found' } end
table.sort(found, function(x, y)
  if x.health ~= y.health then return x.health > y.health end
  return x.order < y.order
end)
local agents = {}
for i = 1, math.min(#found, limit) do
  local roster, n = found[i].roster, #agents
  local instances = {}
  for name, instance in pairs(roster.instances) do
    local m = #instances
    instances[m + 1], instances[m + 2], instances[m + 3] = name, concat({ instance.run, instance.ahead,
      instance.since, instance.interval, instance.pid, instance.mark, instance.host }, '|'), int(instance.beat)
  end
  agents[n + 1] = format('%.3f', found[i].health)
  agents[n + 2] = call('ZCARD', held_key(t.prefix, roster.id))
  agents[n + 3] = call('ZCARD', parked_key(t.prefix, roster.id))
  agents[n + 4] = call('ZCARD', reserved_key(t.prefix, roster.id))
  agents[n + 5] = call('HGETALL', roster.key)
  agents[n + 6] = instances
end
local counts = {
  'total', call('ZCARD', agents_known_key(t.prefix)), 'active', call('SCARD', agents_active_key(t.prefix)),
  'matched', #found,
}
return { 'ok', t.ms, counts, agents }
