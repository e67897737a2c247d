-- What would be claimed next: ids of the lanes' first tasks, best lanes first.
--
-- KEYS    format
-- ARGV    board_name:str, lanes_most:int, per_lane:int
-- RETURNS ok lanes | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include record

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local heads = call('ZRANGE', b.keys.heads, 0, lanes_most - 1)
local reply = { 'ok' }
for i = 1, #heads do
  local key = b.keys.lane .. heads[i]
  local ids = per_lane > 0 and call('ZRANGE', key, 0, per_lane - 1, 'WITHSCORES') or {}
  reply[i + 1] = { heads[i], call('ZCARD', key), ids }
end
return reply
