-- Take an agent off the roster; all that it held or was reserved goes back, unharmed.
--
-- At most 200 tasks a call; `more` asks for another, and what nobody asks for the sweep
-- works off. Until the end the agent takes no work.
--
-- KEYS    format
-- ARGV    agent_id:str, by:str
-- RETURNS ok more given | agent_not_found | no_namespace | newer_format
-- EVENTS  agent:deregistered, task:released, task:cancelled, task:ready, task:assigned
-- FLAGS   allow-oom
-- include depart

local t, refusal = open(format_key, now)
if not t then return refusal end
local roster = read_roster(t, agent_id)
if not roster then return { 'agent_not_found' } end
touch('XLEN', events_key(t.prefix))
touch('SCARD', agents_active_key(t.prefix))
touch('ZCARD', agents_alone_key(t.prefix))
touch('ZCARD', agents_known_key(t.prefix))
touch('ZCARD', agents_due_key(t.prefix))
touch('ZCARD', heartbeats_key(t.prefix))

-- writes
t.by = by
for name in pairs(roster.instances) do end_instance(t, roster, name, 'r') end
settle_agent(t, roster, 'deregistered')
if not roster.unfinished then forget_agent(t, roster) end
cascade(t)
finish(t)
return { 'ok', roster.unfinished and 'more' or '', roster.given or 0 }
