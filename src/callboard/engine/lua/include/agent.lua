-- An agent as the functions see it: what it can serve, whether it takes work, its room.
-- include fit

-- By how much the writes gathered so far will change a set of tasks: what this call moved
-- counts already, else it would see an agent as full that is not.
local function gathered(t, key)
  local change = 0
  for _, score in pairs(t.sets[key] or {}) do change = change + (score and 1 or -1) end
  return change
end

-- Forgets which of the agents fit which lanes; without `all`, only where health is asked for.
local function forget_fits(memory, all)
  memory.healthy_lanes, memory.alone_healthy = { kept = 0 }, { count = 0 }
  if all then memory.lanes, memory.is_unsorted = { kept = 0 }, true end
end

-- An agent that is yet to be read, with room for all that `fill_agent` puts into it.
local function new_agent(id)
  return { id = id, held = 0, reserved = 0, profile = '', status = '', health = 1, limit = 0, ready = 0, lapsed = 0 }
end

-- Takes the first seven fields of an agent's hash, and counts what it has. One that went
-- away shows how as its status; `limit` is how many tasks it may hold, over all instances.
local function fill_agent(t, agent, h)
  local memory, held, reserved = t.memory, held_key(t.prefix, agent.id), reserved_key(t.prefix, agent.id)
  local health = tonumber(h[4]) or 1
  if memory and memory.of[agent.id] == agent then
    if agent.profile ~= h[1] or agent.health ~= health then forget_fits(memory, agent.profile ~= h[1]) end
  end
  agent.held = call('ZCARD', held) + gathered(t, held)
  agent.reserved = call('ZCARD', reserved) + gathered(t, reserved)
  agent.profile, agent.status, agent.health = h[1], h[6] or h[2], health
  agent.limit = tonumber(h[3]) or 100
  agent.ready, agent.lapsed, agent.weight = tonumber(h[5]) or agent.limit, tonumber(h[7]) or 0, nil
  return agent
end

-- Read once a call; nil where no such agent is registered. One that choices remember is the
-- same table there: whatever this call does to it, the next reads it again.
local function load_agent(t, id)
  t.agents = t.agents or {}
  local agent = t.agents[id]
  if agent ~= nil then return agent or nil end
  local known = t.memory and t.memory.of[id]
  if known then t.memory.stale[id] = true end
  local h = call('HMGET', agent_key(t.prefix, id), 'profile', 'status', 'claim_limit',
    'health_score', 'ready_limit', 'gone', 'lapsed')
  if not h[1] then
    t.agents[id] = false
    return nil
  end
  agent = fill_agent(t, known or new_agent(id), h)
  t.agents[id] = agent
  return agent
end

-- Whether the agent may have the lane's tasks: it fits, and is as healthy as they ask.
local function serves(agent, lane)
  local fit = fit_of(agent.profile, lane)
  return fit == true or fit ~= false and agent.health >= fit
end

-- Declared statuses under which an agent may claim; only `active` is offered work.
local function takes_work(agent) return agent.status == 'active' or agent.status == 'busy' end

-- A claim, step or renewal is a heartbeat of the instance that made it. XX: one that was
-- swept must register again. Only a claim has loaded the agent, and it forgives the
-- reservations that the agent let lapse.
local function beat(t, agent, instance)
  call('ZADD', heartbeats_key(t.prefix), 'XX', t.ms, agent .. '/' .. instance)
  local known = t.agents and t.agents[agent]
  if known and known.lapsed > 0 then
    known.lapsed = 0
    hput(t, agent_key(t.prefix, agent), 'lapsed', false)
  end
end
