-- What is set for keys of tasks, what holds for them, and what runs and waits with them.
--
-- Each key answers: its own line, the line that holds, how many claims occupy a slot, the
-- first 100 of these with their fences, how many tasks wait, in how many lanes (at most 1,000
-- are counted), and when the next claim is let through (ms; 0 at once).
--
-- KEYS    format
-- ARGV    count:int, wanted:rows
-- RETURNS ok now_ms keys | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include place

local FLOW_LANES_COUNTED = 1000
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, reply = flow.keys(t), { 'ok', t.ms }
for i = 1, count do
  local key = ARGV[wanted_at + i - 1]
  local is_pattern = string.sub(key, -1) == '*'
  local own = call('HGET', is_pattern and keys.patterns or keys.limits, key) or ''
  local set = is_pattern and flow.read(own) or flow.settings(t, key)
  local rows = is_pattern and {} or call('ZRANGE', keys.lanes .. key, 0, FLOW_LANES_COUNTED - 1)
  local waiting, next_ms = 0, 0
  for j = 1, #rows do
    local name, lane = match(rows[j], '^([^|]*)|(.*)$')
    waiting = waiting + call('ZCARD', board_keys(t.prefix, name).lane .. lane)
  end
  local next_at = set.interval and set.interval ~= 'u' and flow.next_at(t, key, set)
  if next_at and next_at > t.now then next_ms = math.ceil(next_at / 1000) end
  local held = is_pattern and 0 or call('ZCARD', keys.slots .. key)
  local holders = held > 0 and call('ZRANGE', keys.slots .. key, 0, 99, 'WITHSCORES') or {}
  local line = concat({ set.concurrency or '', set.interval or '', set.burst or '', set.paused or '', set.weight or '' }, '|')
  reply[i + 2] = { key, own, line, held, holders, waiting, #rows, next_ms }
end
return reply
