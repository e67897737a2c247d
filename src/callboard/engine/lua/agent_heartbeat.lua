-- Note that instances live, and the load that they report; what was declared stays.
--
-- A row is agent, instance (empty: the agent by its name), load (`name=value` pairs, with
-- commas). `drain` is ok too, and says that the agent was asked to take no new work. An
-- instance that was swept is unknown and must register again; an agent without live
-- instances lives again by a heartbeat under its own name.
--
-- KEYS    format
-- ARGV    count:int, beats:rows
-- RETURNS ok now_ms answers | no_namespace | newer_format
-- ITEMS   ok | drain | agent_not_found | instance_unknown
-- EVENTS  agent:status
-- REPEAT  by state
-- FLAGS   allow-oom
-- include depart

local t, refusal = open(format_key, now)
if not t then return refusal end
touch('XLEN', events_key(t.prefix))
touch('SCARD', agents_active_key(t.prefix))
touch('ZCARD', agents_alone_key(t.prefix))
touch('ZCARD', agents_due_key(t.prefix))
touch('ZCARD', heartbeats_key(t.prefix))
local rosters, answers = {}, {}
for i = 1, count do
  local id = ARGV[beats_at + (i - 1) * 3]
  if rosters[id] == nil then rosters[id] = read_roster(t, id) or false end
end

-- writes
for i = 1, count do
  local at = beats_at + (i - 1) * 3
  local id, name = ARGV[at], ARGV[at + 1]
  local roster = rosters[id]
  local instance = roster and roster.instances[name]
  if not roster or roster.gone == 'deregistered' then
    answers[i] = 'agent_not_found'
  elseif name ~= '' and (not instance or instance.mark ~= '') then
    answers[i] = 'instance_unknown'
  else
    local is_back = name == '' and roster.live == 0
    if is_back then
      instance = {
        run = roster.max_concurrent, ahead = 0, since = t.ms, interval = roster.interval, pid = '',
        mark = '', host = '', is_changed = true,
      }
      roster.instances[''], roster.live = instance, 1
      fact(t, 'agent:status', '', id, roster.declared, id, 0, 'returned')
    end
    if instance then
      instance.beat, roster.beat = t.ms, t.ms
      zput(t, heartbeats_key(t.prefix), id .. '/' .. name, t.ms)
    end
    merge_load(t, roster, ARGV[at + 2])
    if is_back then
      settle_agent(t, roster)
    else
      hput(t, roster.key, 'last_heartbeat', iso(roster.beat))
    end
    answers[i] = takes_work(roster) and 'ok' or 'drain'
  end
end
cascade(t)
finish(t)
return { 'ok', t.ms, concat(answers, ',') }
