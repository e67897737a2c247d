-- End an instance in good order: what it holds is released, which counts no crash.
--
-- With the agent's last instance its reservations go back too. At most 200 tasks a call;
-- `more` asks for another, and what nobody asks for the sweep works off.
--
-- KEYS    format
-- ARGV    agent_id:str, instance:str
-- RETURNS ok more given | instance_unknown | agent_not_found | no_namespace | newer_format
-- EVENTS  agent:status, task:released, task:cancelled, task:ready, task:assigned
-- FLAGS   allow-oom
-- include depart

local t, refusal = open(format_key, now)
if not t then return refusal end
local roster = read_roster(t, agent_id)
if not roster then return { 'agent_not_found' } end
local leaving = roster.instances[instance]
if not leaving then return { 'instance_unknown' } end
touch('XLEN', events_key(t.prefix))
touch('SCARD', agents_active_key(t.prefix))
touch('ZCARD', agents_alone_key(t.prefix))
touch('ZCARD', agents_due_key(t.prefix))
touch('ZCARD', heartbeats_key(t.prefix))

-- writes
t.by = agent_id .. '/' .. instance
if leaving.mark == '' then
  end_instance(t, roster, instance, 'r')
  fact(t, 'agent:status', '', agent_id, roster.live > 0 and roster.status or 'inactive', t.by, 0, 'left')
end
settle_agent(t, roster, 'left')
cascade(t)
finish(t)
return { 'ok', roster.unfinished and 'more' or '', roster.given or 0 }
