-- Agents as they are now: one by its id, or those that have all of what is asked for.
--
-- Healthiest first, then by registration; at most 10,000 known agents are looked
-- at, or of those that have the rarest of the capabilities. Six
-- values each: health, held, parked, reserved, the fields of the hash, the instances (id,
-- record, last heartbeat). Lists are comma-separated, empty for any.
--
-- KEYS    format
-- ARGV    agent_id:str, agent_type:str, status:str, capabilities:str, services:str, labels:str, tags:str, min_health:num, limit:int
-- RETURNS ok now_ms counts agents | agent_not_found | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include discovery

local t, refusal = open(format_key, now)
if not t then return refusal end
local found = {}
if agent_id ~= '' then
  local roster = read_roster(t, agent_id)
  if not roster then return { 'agent_not_found' } end
  found[1] = { roster = roster, health = health_of(t, roster) }
elseif limit > 0 then
  local lane = ';' .. agent_type .. ';' .. capabilities .. ';' .. services .. ';' .. labels
  found = discovery.find(t, lane, status, tags, min_health, limit)
end
local agents = {}
for i = 1, #found do
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
}
return { 'ok', t.ms, counts, agents }
