-- An agent as the functions see it: what it can serve, whether it takes work, its room.
-- include fit

-- By how much the writes gathered so far will change a set of tasks: what this call moved
-- counts already, else it would see an agent as full that is not.
local function gathered(t, key)
  local change = 0
  for _, score in pairs(t.sets[key] or {}) do change = change + (score and 1 or -1) end
  return change
end

-- Read once a call; nil where no such agent is registered. `limit` is how many tasks it
-- may hold at once, over all its instances. One that went away shows how as its status.
local function load_agent(t, id)
  t.agents = t.agents or {}
  local agent = t.agents[id]
  if agent ~= nil then return agent or nil end
  local h = call('HMGET', agent_key(t.prefix, id), 'profile', 'status', 'claim_limit',
    'health_score', 'ready_limit', 'gone', 'lapsed')
  if not h[1] then
    t.agents[id] = false
    return nil
  end
  local held, reserved = held_key(t.prefix, id), reserved_key(t.prefix, id)
  agent = {
    id = id, profile = h[1], status = h[6] or h[2], limit = tonumber(h[3]) or 100,
    health = tonumber(h[4]) or 1, ready = tonumber(h[5]) or tonumber(h[3]) or 100,
    lapsed = tonumber(h[7]) or 0,
    held = call('ZCARD', held) + gathered(t, held),
    reserved = call('ZCARD', reserved) + gathered(t, reserved),
  }
  t.agents[id] = agent
  return agent
end

-- Whether the agent may have the lane's tasks: it fits, and is as healthy as they ask.
local function serves(agent, lane)
  if not fits(agent.profile, lane) then return false end
  local health = match(lane, '^[^;]*;[^;]*;[^;]*;[^;]*;[^;]*;(.+)$')
  return not health or agent.health >= tonumber(health)
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
