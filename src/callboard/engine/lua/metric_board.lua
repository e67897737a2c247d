-- What is true of a board's tasks, from the structures that hold them; bounded however many.
--
-- Counts and throughput are of all tasks. Kinds and priorities are of all tasks of a board of
-- at most 2,000, else of the newest 1,000 done and 500 of each other status. Durations are of
-- the newest 1,000 done: kind|ms of the accepted attempt|ms from submission to its begin.
--
-- KEYS    format
-- ARGV    board_name:str
-- RETURNS ok now_ms counts kinds priorities pending durations | board_not_found | no_namespace | newer_format
-- EVENTS  none: a read
-- FLAGS   no-writes
-- include metrics, record

local WHOLE_MOST, EACH = 2000, 500
-- status, score, since, kind, priority: what is looked at of a record.
local SEEN = '^(%a)|%d+|%d+|[^|]*|(%-?%d*)|(%d*)|%d*|%d*|([^;|]*)[^|]*|(%-?%d+)|'
local t, refusal = open(format_key, now)
if not t then return refusal end
if not call('ZSCORE', boards_key(t.prefix), board_name) then return { 'board_not_found' } end
local keys = board_keys(t.prefix, board_name)
local all, minute = call('HLEN', keys.state), '(' .. int(t.ms - METRIC_MINUTE_MS)

local counts = { 'total', all, 'now', t.ms }
local unplaced = all
for _, name in ipairs({ 'blocked', 'scheduled', 'retry', 'reserved', 'input', 'done', 'failed',
  'cancelled', 'leases' }) do
  local n = call('ZCARD', keys[name])
  unplaced = unplaced - n
  counts[#counts + 1] = name
  counts[#counts + 1] = n
end
for _, status in ipairs({ 'done', 'failed', 'cancelled' }) do
  counts[#counts + 1] = 'minute_' .. status
  counts[#counts + 1] = call('ZCOUNT', keys[status], minute, '+inf')
end
for name, n in pairs({ pending = unplaced, dead = call('ZCARD', keys.dead) }) do
  counts[#counts + 1] = name
  counts[#counts + 1] = n
end

local kinds, priorities, pending, looked_at = {}, {}, {}, 0

local function look(raws)
  for i = 1, #raws do
    local status, _, _, kind, priority = match(raws[i] or '', SEEN)
    if status then
      kinds[kind], priorities[priority] = (kinds[kind] or 0) + 1, (priorities[priority] or 0) + 1
      looked_at = looked_at + 1
    end
  end
end

local function records(ids)
  return #ids > 0 and call('HMGET', keys.state, unpack_values(ids)) or {}
end

local lanes, from_lanes = call('ZRANGE', keys.heads, 0, METRIC_LANES - 1), {}
for i = 1, #lanes do
  local kind = match(lanes[i], '^[^;]*')
  pending[kind] = (pending[kind] or 0) + call('ZCARD', keys.lane .. lanes[i])
  if all > WHOLE_MOST and #from_lanes < EACH then
    local ids = call('ZRANGE', keys.lane .. lanes[i], 0, EACH - #from_lanes - 1)
    for j = 1, #ids do from_lanes[#from_lanes + 1] = ids[j] end
  end
end
local newest = records(call('ZREVRANGE', keys.done, 0, METRIC_RECORDS - 1))
if all <= WHOLE_MOST then
  look(call('HVALS', keys.state))
else
  look(newest)
  look(records(from_lanes))
  for _, name in ipairs({ 'failed', 'cancelled', 'leases', 'blocked', 'scheduled', 'retry',
    'reserved', 'input' }) do
    look(records(call('ZREVRANGE', keys[name], 0, EACH - 1)))
  end
end
counts[#counts + 1] = 'looked_at'
counts[#counts + 1] = looked_at

local durations = {}
for i = 1, #newest do
  local status, took, since, kind = match(newest[i] or '', SEEN)
  if status == 'd' and took ~= '' then
    local created = tonumber(parse(newest[i])[CREATED]) or 0
    durations[#durations + 1] = kind .. '|' .. took .. '|' .. int(tonumber(since) - took - created)
  end
end

local function flat(table_of)
  local found = {}
  for name, n in pairs(table_of) do
    found[#found + 1] = name
    found[#found + 1] = n
  end
  return found
end

return { 'ok', t.ms, counts, flat(kinds), flat(priorities), flat(pending), durations }
