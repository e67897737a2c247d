-- A worker's one round trip: hand in results, say what began, claim the next tasks.
--
-- Both halves always run and answer separately: a refused result neither blocks the claim
-- nor frees room. Completed rows are id, fence, result; begun rows are id, fence.
--
-- KEYS    format
-- ARGV    board_name:str, agent_id:str, instance:str, request:str, limit:int, started:int, wait_ms:int, lease_ms:int, completed:int, begun:int, rows:rows
-- RETURNS ok more answers begun_answers claim | no_namespace | newer_format
-- ITEMS   ok | replayed | lease_lost | task_not_found
-- EVENTS  task:completed, task:started, task:claimed, task:lease_lost, task:ready, task:assigned, workstealing:request, error:cascade
-- REPEAT  by fence and request id
-- FLAGS   allow-oom
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local again = repeat_claim(b, agent_id, instance, request)
local no = not again and claim_refusal(t, b, agent_id)
if completed + begun > 0 then touch_board(b) else touch_usual(b) end

-- writes
t.by = agent_id .. '/' .. instance
if limit == 0 then beat(t, agent_id, instance) end
local answers = complete(b, ARGV, rows_at, completed)
local begun_answers, begun_at = {}, rows_at + completed * 3
for i = 1, begun do
  begun_answers[i] = start(b, ARGV[begun_at + (i - 1) * 2], ARGV[begun_at + (i - 1) * 2 + 1])
end
cascade(t)
local reply = no or again
if not reply and limit > 0 then
  settle(t)
  reply = t.gated and breakers.refusal(breakers.agent(t, agent_id))
    or claim(b, load_agent(t, agent_id), instance, request, limit, started, wait_ms, lease_ms)
  cascade(t)
end
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ','), concat(begun_answers, ','), reply or { 'empty', '' } }
