-- One bounded round over the agents that are due: what silent instances held is given
-- back as lost, health and the active set are brought up to date.
--
-- An instance is lost after three intervals without a heartbeat, an agent with its last
-- instance. An agent that has been gone for a day is forgotten. Not more than `limit`
-- agents and 200 tasks a call; `more` asks for another.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok more instances_lost agents_lost | no_namespace | newer_format
-- EVENTS  agent:error, agent:instance_lost, agent:lost, agent:deregistered, task:lease_lost, task:released, task:failed, task:cancelled, task:ready, task:assigned, error:cascade
-- REPEAT  by state
-- FLAGS   allow-oom
-- include depart

local t, refusal = open(format_key, now)
if not t then return refusal end
local due = call('ZRANGEBYSCORE', agents_due_key(t.prefix), '-inf', t.ms, 'LIMIT', 0, limit)
touch('XLEN', events_key(t.prefix))
touch('SCARD', agents_active_key(t.prefix))
touch('ZCARD', agents_alone_key(t.prefix))
touch('ZCARD', agents_known_key(t.prefix))
touch('ZCARD', heartbeats_key(t.prefix))

-- writes
t.by = 'janitor'
local left, instances_lost, agents_lost, is_more = ROSTER.given_most, 0, 0, #due == limit
for i = 1, #due do
  local id = due[i]
  -- Somebody else's value under our name must not stop the sweep of the others.
  local is_hash = call('TYPE', agent_key(t.prefix, id)).ok == 'hash'
  local roster = is_hash and read_roster(t, id)
  if not roster then
    zput(t, agents_due_key(t.prefix), id, false)
    zput(t, agents_known_key(t.prefix), id, false)
    zput(t, agents_alone_key(t.prefix), id, false)
    call('SREM', agents_active_key(t.prefix), id)
    redis.pcall('ZREM', capability_keys(t.prefix, '').all, id)
  elseif left > 0 then -- the others stay due
    roster.left = left
    for name, instance in pairs(roster.instances) do
      if instance.mark == '' and silence(t, instance) >= 1 then
        end_instance(t, roster, name, 'l')
        if name ~= '' then
          fact(t, 'agent:instance_lost', '', id, 'lost', id .. '/' .. name, 0)
          instances_lost = instances_lost + 1
        end
      end
    end
    if not roster.gone and roster.live == 0 then agents_lost = agents_lost + 1 end
    settle_agent(t, roster, 'lost')
    local is_over_with = roster.gone == 'deregistered'
      or roster.gone and t.ms >= roster.gone_since + ROSTER.gone_kept_ms
    if is_over_with and not roster.unfinished then forget_agent(t, roster) end
    left = roster.left
  end
  if roster and (roster.unfinished or left <= 0) then is_more = true end
end
cascade(t)
finish(t)
return { 'ok', (is_more or t.more) and 'more' or '', instances_lost, agents_lost }
