-- What agents say they are doing: idle, busy with a task, or failed; and the hash of each type.
--
-- Each agent's own word stands in its hash, as `activity`: type|state|ms|task. Of each type
-- three sorted sets hold its agents by state and since when, and `agent:status:{type}` shows
-- idle where one of them is idle, else busy, else failed.
-- include open

local activity = {}
activity.events = { idle = 'agent:idle', busy = 'agent:active', failed = 'agent:error' }

function activity.read(t, id)
  local raw = call('HGET', agent_key(t.prefix, id), 'activity')
  if not raw then return nil end
  local agent_type, state, at, task = match(raw, '^([^|]*)|(%a+)|(%d+)|(.*)$')
  return { type = agent_type, state = state, at = tonumber(at), task = task }
end

-- Fails with WRONGTYPE, before anything was written, where a key is somebody else's.
function activity.touch(t, agent_type)
  local keys = activity_keys(t.prefix, agent_type)
  touch('HLEN', keys.shown)
  touch('ZCARD', keys.idle)
  touch('ZCARD', keys.busy)
  touch('ZCARD', keys.failed)
end

-- Writes the documented hash of a type anew; there is none once no agent has a state.
function activity.show(t, agent_type)
  local keys = activity_keys(t.prefix, agent_type)
  local idle, busy, failed = call('ZCARD', keys.idle), call('ZCARD', keys.busy), call('ZCARD', keys.failed)
  call('DEL', keys.shown)
  if idle + busy + failed == 0 then return end
  local state = idle > 0 and 'idle' or busy > 0 and 'busy' or 'failed'
  local last = call('ZREVRANGE', keys[state], 0, 0)[1]
  local own = activity.read(t, last)
  call('HSET', keys.shown, 'status', state, 'updated_at', iso(t.ms), 'agent', last,
    'idle', idle, 'busy', busy, 'failed', failed)
  if state ~= 'idle' and own and own.task ~= '' then call('HSET', keys.shown, 'current_task', own.task) end
end

-- Keeps an agent's word; nil as state takes it back. Written at once.
function activity.put(t, id, agent_type, state, task)
  local before, key = activity.read(t, id), agent_key(t.prefix, id)
  if before then call('ZREM', activity_keys(t.prefix, before.type)[before.state], id) end
  if state then
    call('HSET', key, 'activity', agent_type .. '|' .. state .. '|' .. t.ms .. '|' .. task)
    call('ZADD', activity_keys(t.prefix, agent_type)[state], t.ms, id)
    fact(t, activity.events[state], '', id, state, id, 0, task)
  else
    call('HDEL', key, 'activity')
  end
  if before and before.type ~= agent_type then activity.show(t, before.type) end
  if agent_type then activity.show(t, agent_type) end
end

-- An agent went away: one that was lost has failed, of one that left nothing is known. Where
-- a key is somebody else's its word stays as it is, since writes were made already.
function activity.gone(t, id, why)
  local before = activity.read(t, id)
  if not before or why == 'lost' and before.state == 'failed' then return end
  local keys = activity_keys(t.prefix, before.type)
  for name, key in pairs(keys) do
    local size = redis.pcall(name == 'shown' and 'HLEN' or 'ZCARD', key)
    if type(size) ~= 'number' then return end
  end
  if why == 'lost' then
    activity.put(t, id, before.type, 'failed', before.task)
  else
    activity.put(t, id, nil)
  end
end
