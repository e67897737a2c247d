-- Push the deadlines of claims forward, where the caller still owns them.
--
-- A row is id, fence. A deadline never moves backwards, nor past the task's time limit.
-- An overdue holder may renew while nobody was given the task. `cancel` renews too, and
-- says that someone asked for the task's cancellation.
--
-- KEYS    format
-- ARGV    board_name:str, agent_id:str, instance:str, lease_ms:int, count:int, claims:rows
-- RETURNS ok now_ms answers | no_namespace | newer_format
-- ITEMS   ok | cancel | lease_lost | task_not_found
-- EVENTS  none: a renewal is not news
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch('ZCARD', heartbeats_key(t.prefix))
local answers, ids = {}, {}
for i = 1, count do ids[i] = ARGV[claims_at + (i - 1) * 2] end
load_records(b, ids)

-- writes
beat(t, agent_id, instance)
for i = 1, count do
  local id, fence = ids[i], ARGV[claims_at + (i - 1) * 2 + 1]
  local r = b.records[id]
  local no = stale(r, fence)
  if no then
    answers[i] = no
  else
    local lease = r[LEASE] ~= '' and tonumber(r[LEASE]) or lease_ms
    local deadline = t.ms + lease
    if r[TIMEOUT] ~= '' and r[STATUS] ~= 'k' then
      deadline = math.min(deadline, tonumber(r[SINCE]) + tonumber(r[TIMEOUT]))
    end
    local before = tonumber(call('ZSCORE', b.keys.leases, id) or '0')
    if deadline > before then zput(t, b.keys.leases, id, deadline) end
    answers[i] = has(r, 'C') and 'cancel' or 'ok'
  end
end
finish(t)
return { 'ok', t.ms, concat(answers, ',') }
