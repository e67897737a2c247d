-- A group of errors, with how many came in each minute of the last 24 hours.
--
-- KEYS    format
-- ARGV    fingerprint:str
-- RETURNS ok group minutes | error_not_found | no_namespace | newer_format
-- EVENTS  none: a read
-- FLAGS   no-writes
-- include errors

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, minutes = error_keys(t.prefix), {}
local flat = call('HGETALL', keys.group .. fingerprint)
if #flat == 0 then return { 'error_not_found' } end
for hours = 24, 0, -1 do
  local counts = call('HGETALL', errors.minutes_of(keys, fingerprint, t.ms - hours * ERROR_HOUR_MS))
  for i = 1, #counts, 2 do
    if tonumber(counts[i]) * 60000 > t.ms - 24 * ERROR_HOUR_MS then
      minutes[#minutes + 1] = counts[i]
      minutes[#minutes + 1] = counts[i + 1]
    end
  end
end
return { 'ok', flat, minutes }
