-- Note that agents took over what was pushed to them: it began, under the lease given.
--
-- A row is id, fence. A lease is never shortened, and a task's own goes before. It is a
-- heartbeat of the agent, and deliveries to it count as good again. It is one of the agents
-- `heard` too, with commas between them: those that answered something else.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, lease_ms:int, heard:str, count:int, claims:rows
-- RETURNS ok answers | no_namespace | newer_format
-- ITEMS   ok | lease_lost | task_not_found
-- EVENTS  task:started
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local ids, agents = {}, {}
for i = 1, count do ids[i] = ARGV[claims_at + (i - 1) * 2] end
load_records(b, ids)
for i = 1, count do
  local r = b.records[ids[i]]
  local id = r and r[FENCE] == ARGV[claims_at + (i - 1) * 2 + 1] and agent_of(r)
  if id and id ~= '' then agents[id] = load_agent(t, id) end
end
touch_events(b)
touch('ZCARD', b.keys.leases)
touch('ZCARD', heartbeats_key(t.prefix))

-- writes
t.by = by
local answers = {}
for i = 1, count do
  local id, r = ids[i], b.records[ids[i]]
  answers[i] = start(b, id, ARGV[claims_at + (i - 1) * 2 + 1])
  if answers[i] == 'ok' then
    local until_ms = t.ms + (r[LEASE] ~= '' and tonumber(r[LEASE]) or lease_ms)
    if r[TIMEOUT] ~= '' then until_ms = math.min(until_ms, tonumber(r[SINCE]) + tonumber(r[TIMEOUT])) end
    if until_ms > tonumber(call('ZSCORE', b.keys.leases, id) or '0') then
      zput(t, b.keys.leases, id, until_ms)
    end
  end
end
for id in pairs(agents) do
  beat(t, id, '')
  hput(t, agent_key(t.prefix, id), 'undelivered', false)
end
for id in string.gmatch(heard, '[^,]+') do beat(t, id, '') end
finish(t)
return { 'ok', concat(answers, ',') }
