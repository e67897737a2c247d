-- Set how much is kept of the series of a name; what is there already is cut with the next point.
--
-- Where that is what is kept of others too, the name has no setting any more.
--
-- KEYS    format
-- ARGV    name:str, points:int, kept_ms:int
-- RETURNS ok | too_many_series limit | no_namespace | newer_format
-- EVENTS  none: a setting of what is kept
-- REPEAT  by state
-- include metrics

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = metric_keys(t.prefix)
local is_usual = points == METRIC_POINTS and kept_ms == METRIC_KEPT_MS
local is_known = call('HEXISTS', keys.settings, name) == 1
if not is_known and not is_usual and call('HLEN', keys.settings) >= METRIC_SETTINGS_MOST then
  return { 'too_many_series', METRIC_SETTINGS_MOST }
end

-- writes
if is_usual then
  call('HDEL', keys.settings, name)
else
  call('HSET', keys.settings, name, int(points) .. ':' .. int(kept_ms))
end
close(t)
return { 'ok' }
