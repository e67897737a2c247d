-- Declare an agent's status; one that takes no work gives its reservations back.
--
-- At most 200 at a call; `more` asks for another. Its instances' bells are rung.
--
-- KEYS    format
-- ARGV    agent_id:str, declared:str, by:str, load:str
-- RETURNS ok now_ms more previous | agent_not_found | no_namespace | newer_format
-- EVENTS  agent:status, task:ready, task:assigned
-- REPEAT  by state
-- FLAGS   allow-oom
-- include depart

local t, refusal = open(format_key, now)
if not t then return refusal end
local roster = read_roster(t, agent_id)
if not roster or roster.gone == 'deregistered' then return { 'agent_not_found' } end
touch('XLEN', events_key(t.prefix))
touch('SCARD', agents_active_key(t.prefix))
touch('ZCARD', agents_alone_key(t.prefix))
touch('ZCARD', agents_due_key(t.prefix))

-- writes
t.by = by
local previous = roster.declared
roster.declared = declared
merge_load(t, roster, load)
settle_agent(t, roster)
if previous ~= declared then
  fact(t, 'agent:status', '', agent_id, declared, agent_id, 0, previous)
  for name in pairs(roster.instances) do
    t.bells[agent_bell(t.prefix, agent_id .. '/' .. name)] = declared
  end
end
cascade(t)
finish(t)
return { 'ok', t.ms, roster.unfinished and 'more' or '', previous }
