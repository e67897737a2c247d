-- Which sweeps have something to do just now: their names, with commas between.
--
-- KEYS    format
-- ARGV
-- RETURNS ok sweeps | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include due

local t, refusal = open(format_key, now)
if not t then return refusal end
return { 'ok', sweeps.due(t) }
