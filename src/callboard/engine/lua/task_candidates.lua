-- What a strategy that runs elsewhere chooses from: a waiting task, and the agents that fit
-- it and have room, at most 1,000, in order of registration. Else a word that says where it
-- stands, and a fact about that.
--
-- The task: kind, affinity key or id, priority, number of required capabilities. Each agent
-- is 21 values: id, held, reserved, limit, ready, health, waiting, waited_ms, runs, mean of
-- this kind (ms), usual mean, done, failed, recently done, recently failed, mean of all
-- kinds, cpu, memory, weight, priority, was last; what is not known is empty.
--
-- KEYS    format
-- ARGV    board_name:str, id:str
-- RETURNS ok now_ms word fact task agents | paused closed | no_namespace | newer_format
-- ITEMS   ok | no_agent | reserved | not_ready | kind_paused | at_limit | task_not_found
-- EVENTS  none
-- FLAGS   no-writes
-- include place

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
if b.paused then return { 'paused', b.closed and 'closed' or '' } end
local r = load_record(b, id)
local word, fact_of_it = chooser.standing(b, r)
if word then return { 'ok', t.ms, word, fact_of_it } end
local task, agents = chooser.sketch(b, id, r), {}
local candidates = chooser.candidates(b, r[LANE], waiters_of(b), { runs = true, all = true, load = true })
for i = 1, #candidates do
  local c = candidates[i]
  agents[i] = {
    c.id, c.held, c.reserved, c.limit, c.ready, tostring(c.health), c.waiting and 1 or 0,
    c.waited_ms, c.runs, c.avg_ms and tostring(c.avg_ms) or '', c.mean_ms and tostring(c.mean_ms) or '',
    c.done, c.failed, c.recent_done, c.recent_failed, c.response_ms and tostring(c.response_ms) or '',
    tostring(c.cpu), tostring(c.memory), tostring(c.weight), tostring(c.priority), c.was_last and 1 or 0,
  }
end
if #agents == 0 then return { 'ok', t.ms, 'no_agent', 'no agent that fits has room' } end
return { 'ok', t.ms, 'ok', '', { task.kind, task.key, task.priority, task.required }, agents }
