-- How work is spread over the agents, and how many assignments were made and failed.
--
-- Loads are held and reserved tasks by active agent: id, number, at most 1,000 agents.
--
-- KEYS    format
-- ARGV    board_name:str
-- RETURNS ok strategy assignments failed active weighted loads | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include place

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local assignments, failed = chooser.counts(t)
local ids, weighted, loads = call('ZRANGE', agents_known_key(t.prefix), 0, chooser.looked_at - 1), 0, {}
for i = 1, #ids do
  -- Somebody else's value under our name is passed over.
  local is_hash = call('TYPE', agent_key(t.prefix, ids[i])).ok == 'hash'
  local agent = is_hash and load_agent(t, ids[i])
  if agent and takes_work(agent) then
    loads[#loads + 1] = ids[i]
    loads[#loads + 1] = agent.held + agent.reserved
  end
  if agent and (call('HGET', agent_key(t.prefix, ids[i]), 'weight') or '1') ~= '1' then
    weighted = weighted + 1
  end
end
return { 'ok', b.strategy or 'best_idle', assignments, failed,
  call('SCARD', agents_active_key(t.prefix)), weighted, loads }
