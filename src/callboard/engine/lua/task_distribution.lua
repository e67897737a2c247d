-- How a board's tasks were given to agents, and what became of them; loads by active agent.
--
-- Counted while somebody dispatches the board: tasks given out; of those whose waiting is
-- known how many, and how long they waited in all (ms); those that came back. Done and
-- failed are of all tasks ever. Loads are id, held and reserved tasks, at most 1,000 agents.
--
-- KEYS    format
-- ARGV    board_name:str
-- RETURNS ok strategy distributed timed waited_ms returned done failed active weighted loads | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include metrics, place

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local h = call('HMGET', b.keys.board, 'distributed', 'timed', 'waited', 'returned', 'dispatches_by')

-- Those that ended since the totals were last counted, and those before.
local function ended(status)
  local totals = redis.pcall('HMGET', metric_keys(t.prefix).totals, 'at', status .. ':' .. b.name)
  if totals.err then totals = {} end
  local since = totals[1] and '(' .. totals[1] or '-inf'
  return (tonumber(totals[2] or '0') or 0) + call('ZCOUNT', b.keys[status], since, '+inf')
end

local weighted, loads = chooser.loads(t)
return { 'ok', b.strategy or h[5] or '', h[1] or 0, h[2] or 0, h[3] or 0, h[4] or 0, ended('done'), ended('failed'),
  call('SCARD', agents_active_key(t.prefix)), weighted, loads }
