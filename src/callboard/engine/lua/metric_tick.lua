-- Add what ended since the last tick to the totals of each board, and say whether a sample is
-- due, which is so every 30 seconds.
--
-- Totals only rise: they count how tasks ended, from the sorted sets of those that did; the
-- purge counts those that it takes before a tick. Boards beyond the newest 1,000 are not counted.
--
-- KEYS    format
-- ARGV
-- RETURNS due totals | not_due totals | no_namespace | newer_format
-- EVENTS  none: a count
-- REPEAT  by state
-- FLAGS   allow-oom
-- include metrics

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = metric_keys(t.prefix)
local names = call('ZREVRANGE', boards_key(t.prefix), 0, METRIC_BOARDS_MOST - 1)
local last = tonumber(call('HGET', keys.totals, 'at'))
local sampled = tonumber(call('GET', keys.sampled) or '0')
local from = last and '(' .. int(last) or '-inf'
local to, added = int(t.ms - 1), {} -- of this millisecond more may come
if not last or t.ms - 1 > last then
  for i = 1, #names do
    local b = board_keys(t.prefix, names[i])
    for _, status in ipairs({ 'done', 'failed', 'cancelled' }) do
      local n = call('ZCOUNT', b[status], from, to)
      if n > 0 then added[status .. ':' .. names[i]] = n end
    end
  end
end
local is_due = #names > 0 and t.ms >= sampled + METRIC_SAMPLE_MS

-- writes
if #names > 0 then
  for field, n in pairs(added) do call('HINCRBY', keys.totals, field, n) end
  call('HSET', keys.totals, 'at', int(math.max(t.ms - 1, last or 0)))
  if call('HLEN', keys.totals) > 3 * METRIC_BOARDS_MOST + 1 then -- boards that are gone
    local is_there = {}
    for i = 1, #names do is_there[names[i]] = true end
    local fields = call('HKEYS', keys.totals)
    for i = 1, #fields do
      local name = match(fields[i], '^%a+:(.*)$')
      if name and not is_there[name] then call('HDEL', keys.totals, fields[i]) end
    end
  end
  call('PEXPIRE', keys.totals, METRIC_KEPT_MS)
end
if is_due then call('SET', keys.sampled, int(t.ms), 'PX', METRIC_KEPT_MS) end
close(t)
return { is_due and 'due' or 'not_due', call('HGETALL', keys.totals) }
