-- Give the agent the best tasks that it can serve, each with a fence and a lease.
--
-- Its reservations come first, then the lanes in order, then half of what the most loaded
-- agents have not started. The first `started` of them count as begun, the others as
-- claimed ahead. A request id repeats the answer for ten minutes, to the same instance.
--
-- KEYS    format
-- ARGV    board_name:str, agent_id:str, instance:str, request:str, limit:int, started:int, wait_ms:int, lease_ms:int
-- RETURNS ok tasks | empty | replayed lost tasks | request_conflict request | agent_full | agent_not_found | instance_unknown | agent_draining status | paused closed | breaker_open component state retry_ms probes | no_namespace | newer_format
-- EVENTS  task:claimed, task:lease_lost, task:retry_scheduled, task:ready, task:assigned, task:failed, task:cancelled, workstealing:request, error:cascade
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
touch_usual(b)

-- writes
t.by = instance == '' and agent_id or agent_id .. '/' .. instance
local reply = claim(b, load_agent(t, agent_id), instance, request, limit, started, wait_ms, lease_ms)
cascade(t)
finish(t)
return reply
