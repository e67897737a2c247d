-- Enter an agent, or an instance of it, into the roster; again is an update, the last wins.
--
-- `given` is the status asked for; empty keeps `draining` and `maintenance` and makes
-- others active. `instance` is empty for an agent that runs without instances, `slots`
-- how many tasks it runs at once, `prefetch` how many it may hold beyond. Rows are name,
-- value: the documented fields of the hash, verbatim.
--
-- KEYS    format
-- ARGV    agent_id:str, profile:str, given:str, max_concurrent:int, interval_ms:int, instance:str, slots:int, prefetch:int, pid:str, host:str, fields:rows
-- RETURNS ok now_ms revision outcome status | too_many_instances limit | no_namespace | newer_format
-- EVENTS  agent:registered, agent:conflict, task:lease_lost, task:released
-- REPEAT  by state
-- include depart

local INSTANCES_MOST = 1000
local t, refusal = open(format_key, now)
if not t then return refusal end
local roster = read_roster(t, agent_id)
local outcome = roster and 'updated' or 'created'
roster = roster or {
  id = agent_id, key = agent_key(t.prefix, agent_id), profile = profile, declared = 'active',
  load = '{}', lapsed = 0, revision = 0, instances = {}, live = 0, beat = 0,
  left = ROSTER.given_most, gone_since = 0,
}
local others, count = 0, 0
for name, other in pairs(roster.instances) do
  count = count + 1
  if name ~= instance and other.mark == '' then others = others + 1 end
end
if not roster.instances[instance] and count >= INSTANCES_MOST then
  return { 'too_many_instances', INSTANCES_MOST }
end
touch('XLEN', events_key(t.prefix))
touch('SCARD', agents_active_key(t.prefix))
touch('ZCARD', agents_alone_key(t.prefix))
touch('ZCARD', agents_known_key(t.prefix))
touch('ZCARD', agents_due_key(t.prefix))
touch('ZCARD', heartbeats_key(t.prefix))

-- writes
t.by = instance == '' and agent_id or agent_id .. '/' .. instance
local member = agent_id .. '/' .. instance
if given ~= '' then
  roster.declared = given
elseif roster.declared ~= 'draining' and roster.declared ~= 'maintenance' then
  roster.declared = 'active'
end
if roster.profile ~= profile and others > 0 then
  fact(t, 'agent:conflict', '', agent_id, roster.declared, t.by, 0, roster.profile .. ' ' .. profile)
end
if roster.revision == 0 or roster.profile ~= profile then roster.revision = roster.revision + 1 end
roster.profile, roster.max_concurrent, roster.interval, roster.lapsed = profile, max_concurrent, interval_ms, 0
for i = fields_at, #ARGV - 1, 2 do hput(t, roster.key, ARGV[i], ARGV[i + 1]) end
hput(t, roster.key, 'agent_id', agent_id)
hput(t, roster.key, 'profile', profile)
hput(t, roster.key, 'revision', roster.revision)
hput(t, roster.key, 'max_concurrent', max_concurrent)
hput(t, roster.key, 'interval_ms', interval_ms)
hput(t, roster.key, 'lapsed', false)
if instance == '' then hput(t, roster.key, 'undelivered', false) end -- it is there, so it does not rest
if outcome == 'created' then
  hput(t, roster.key, 'registration_time', iso(t.ms))
  hput(t, roster.key, 'load_metrics', '{}')
  zput(t, agents_known_key(t.prefix), agent_id, t.ms)
end
-- Named instances carry the heartbeat and the capacity of an agent that has any.
if instance ~= '' and roster.instances[''] then end_instance(t, roster, '', 'r') end
if instance ~= '' or others == 0 then
  local before = roster.instances[instance]
  if not before or before.mark ~= '' then roster.live = roster.live + 1 end
  roster.instances[instance] = {
    run = slots, ahead = prefetch, since = t.ms, interval = interval_ms, pid = pid, mark = '',
    host = host, beat = t.ms, is_changed = true,
  }
  roster.beat = t.ms
  zput(t, heartbeats_key(t.prefix), member, t.ms)
end
roster.is_news = true
settle_agent(t, roster)
fact(t, 'agent:registered', '', agent_id, roster.status, t.by, 0, outcome)
cascade(t)
finish(t)
return { 'ok', t.ms, roster.revision, outcome, roster.status }
