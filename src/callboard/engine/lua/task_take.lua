-- Claim one named task, or say exactly why it cannot be had.
--
-- A request id repeats the answer for ten minutes, to the same instance: the task as far as it
-- is held still, else the fence that was lost.
--
-- KEYS    format
-- ARGV    board_name:str, agent_id:str, instance:str, request:str, id:str, lease_ms:int
-- RETURNS ok tasks | replayed lost tasks | request_conflict request | task_not_found | not_ready status waits_for | held holder until_ms | illegal_state status | does_not_fit missing | agent_full | at_limit limit key until_ms | agent_not_found | instance_unknown | agent_draining status | paused closed | breaker_open component state retry_ms probes | no_namespace | newer_format
-- EVENTS  task:claimed
-- REPEAT  by request id
-- FLAGS   allow-oom
-- include claim

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local again = repeat_claim(b, agent_id, instance, request)
if again then return again end
refusal = claim_refusal(t, b, agent_id)
  or t.gated and breakers.refusal(breakers.agent(t, agent_id))
if refusal then return refusal end
local r = load_record(b, id)
if not r then return { 'task_not_found' } end
local status, agent = r[STATUS], load_agent(t, agent_id)
if HELD[status] then return { 'held', r[HOLDER], call('ZSCORE', b.keys.leases, id) or '0' } end
if status == 'a' and r[HOLDER] ~= agent_id then
  return { 'held', r[HOLDER], call('ZSCORE', b.keys.reserved, id) or '0' }
end
if FINISHED[status] then return { 'illegal_state', WORDS[status] } end
if status == 'b' then
  local needs = call('SMEMBERS', b.keys.needs .. id)
  return { 'not_ready', WORDS[status], concat(needs, ',', 1, math.min(#needs, 100)) }
end
if status == 's' then
  return { 'not_ready', WORDS[status],
    call('ZSCORE', b.keys.scheduled, id) or call('ZSCORE', b.keys.retry, id) or '' }
end
if status == 'q' then return { 'not_ready', WORDS[status], 'input' } end
refusal = t.gated and breakers.refusal(breakers.kind(t, r[LANE]))
if refusal then return refusal end
if kind_paused(b, r[LANE]) then return { 'paused' } end
if not serves(agent, r[LANE]) then
  return { 'does_not_fit', concat(missing_for(agent.profile, r[LANE]), ', ') }
end
if agent.held >= agent.limit then return { 'agent_full' } end
local room, limit = room_of(b)
if room <= (status == 'a' and 0 or b.reserved) then return { 'at_limit', limit } end
local space, what, key = flow.room(t, r[LANE])
if space <= 0 then return { 'at_limit', what, key, flow.explain(t, r[LANE])[5] } end
local score = r[SCORE] ~= '' and r[SCORE] or call('ZSCORE', b.keys.lane .. r[LANE], id)
touch_board(b)
local taken = nothing_taken()
take(taken, id, score, status == 'p' and r[LANE])
load_taken(b, taken)

-- writes
t.by = instance == '' and agent_id or agent_id .. '/' .. instance
beat(t, agent_id, instance)
local reply = { 'ok', '' }
local first = grant(b, agent, instance, taken, 1, lease_ms, reply)
if request ~= '' then -- as a claim is remembered
  call('SET', request_key(t.prefix, request), b.name .. '|' .. agent_id .. '|' .. instance .. '|'
    .. int(first) .. '|1', 'PX', REQUEST_KEPT_MS)
end
finish(t)
return reply
