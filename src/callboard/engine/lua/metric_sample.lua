-- Record a sample of the coordination metrics: a point for each, and one event of them all.
--
-- A row is the series, the value and nothing. `told` is one JSON object without line breaks.
--
-- KEYS    format
-- ARGV    told:str, count:int, points:rows
-- RETURNS ok | no_namespace | newer_format
-- EVENTS  metrics:coordination
-- include metrics

local ROW_VALUES = 3
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = metric_keys(t.prefix)
touch('ZCARD', keys.all)
touch('HLEN', keys.settings)
touch('XLEN', events_key(t.prefix))
for i = 1, count do touch('XLEN', keys.series .. ARGV[points_at + (i - 1) * ROW_VALUES]) end

-- writes
t.by = 'janitor'
for i = 1, count do
  local at = points_at + (i - 1) * ROW_VALUES
  metrics.put(t, keys, ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
metrics.bound(t, keys)
fact(t, 'metrics:coordination', '', '', 'sampled', '', 0, told)
close(t)
return { 'ok' }
