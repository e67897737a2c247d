-- Append points to series, and cut each series to what is kept of it.
--
-- A row is the series (its name, and `;key=value` for each tag), the value, and the step or
-- nothing. Points have the engine's time.
--
-- KEYS    format
-- ARGV    count:int, points:rows
-- RETURNS ok | no_namespace | newer_format
-- EVENTS  none: a point is the news itself
-- include metrics

local ROW_VALUES = 3
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = metric_keys(t.prefix)
touch('ZCARD', keys.all)
touch('HLEN', keys.settings)
for i = 1, count do touch('XLEN', keys.series .. ARGV[points_at + (i - 1) * ROW_VALUES]) end

-- writes
for i = 1, count do
  local at = points_at + (i - 1) * ROW_VALUES
  metrics.put(t, keys, ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
metrics.bound(t, keys)
close(t)
return { 'ok' }
