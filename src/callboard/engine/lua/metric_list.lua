-- Series by when they were last added to, the latest first, each with its newest point.
--
-- A span above 0 leaves out those last added to longer ago.
--
-- KEYS    format
-- ARGV    since_ms:int, span_ms:int, limit:int
-- RETURNS ok now_ms series | no_namespace | newer_format
-- EVENTS  none: a read
-- FLAGS   no-writes
-- include metrics

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, found = metric_keys(t.prefix), {}
local from = span_ms > 0 and math.max(since_ms, t.ms - span_ms) or since_ms
local rows = call('ZREVRANGEBYSCORE', keys.all, '+inf', int(from), 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #rows, 2 do
  local newest = call('XREVRANGE', keys.series .. rows[i], '+', '-', 'COUNT', 1)
  if newest[1] then found[#found + 1] = { rows[i], rows[i + 1], newest[1][2][2] } end
end
return { 'ok', t.ms, found }
