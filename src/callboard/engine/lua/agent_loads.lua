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
local weighted, loads = chooser.loads(t)
return { 'ok', b.strategy or 'best_idle', assignments, failed,
  call('SCARD', agents_active_key(t.prefix)), weighted, loads }
