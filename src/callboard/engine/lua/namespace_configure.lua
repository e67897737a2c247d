-- Change settings of the namespace: pause, channels, grace, event retention.
--
-- KEYS    format
-- ARGV    pairs:rows
-- RETURNS ok | no_namespace | newer_format
-- EVENTS  board:changed
-- REPEAT  by state
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
touch('XLEN', events_key(t.prefix))

-- writes
for i = pairs_at, #ARGV - 1, 2 do
  call('HSET', format_key, ARGV[i], ARGV[i + 1])
  fact(t, 'board:changed', '', '', ARGV[i], '', 0, ARGV[i + 1])
end
close(t)
return { 'ok' }
