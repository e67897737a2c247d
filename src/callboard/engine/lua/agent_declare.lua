-- Keep what an agent says it is doing, beside what others of its type say.
--
-- `state` is idle, busy or failed; `task` is empty where it is idle. The type is the one that
-- it is registered under.
--
-- KEYS    format
-- ARGV    agent_id:str, state:str, task:str
-- RETURNS ok type at_ms | agent_not_found | no_namespace | newer_format
-- EVENTS  agent:idle, agent:active, agent:error
-- REPEAT  by state
-- FLAGS   allow-oom
-- include activity

local t, refusal = open(format_key, now)
if not t then return refusal end
local h = call('HMGET', agent_key(t.prefix, agent_id), 'profile', 'agent_type')
if not h[1] then return { 'agent_not_found' } end
local agent_type = h[2] or 'worker'
local before = activity.read(t, agent_id)
if before then activity.touch(t, before.type) end
activity.touch(t, agent_type)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = agent_id
activity.put(t, agent_id, agent_type, state, task)
close(t)
return { 'ok', agent_type, t.ms }
