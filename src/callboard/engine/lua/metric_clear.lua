-- Remove series with all their points.
--
-- KEYS    format
-- ARGV    count:int, series:rows
-- RETURNS ok removed | no_namespace | newer_format
-- EVENTS  none: points are kept for a while only
-- REPEAT  by state
-- FLAGS   allow-oom
-- include metrics

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, removed = metric_keys(t.prefix), 0
touch('ZCARD', keys.all)

-- writes
for i = 1, count do
  local name = ARGV[series_at + i - 1]
  call('UNLINK', keys.series .. name)
  removed = removed + call('ZREM', keys.all, name)
end
close(t)
return { 'ok', removed }
