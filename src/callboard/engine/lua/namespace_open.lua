-- Make the namespace's format key where it is missing, and tell who is there.
--
-- The incarnation, half of every event cursor, is renewed with the key and whenever the
-- engine's replication id differs from the one remembered.
--
-- KEYS    format
-- ARGV    replication_id:str, incarnation:str
-- RETURNS ok major minor incarnation seq | newer_format major
-- EVENTS  none
-- include open

if not call then alias() end
local h = call('HMGET', format_key, 'major', 'minor', 'incarnation', 'replication_id', 'seq')
if h[1] and tonumber(h[1]) > MAJOR then return { 'newer_format', h[1] } end
touch('XLEN', events_key(string.sub(format_key, 1, #format_key - #FORMAT)))

-- writes
if not h[1] then
  call('HSET', format_key, 'major', MAJOR, 'minor', MINOR, 'fence', 0, 'seq', 0, 'now', 0)
  h[1], h[2], h[5] = tostring(MAJOR), tostring(MINOR), '0'
end
if not h[3] or h[4] ~= replication_id then
  call('HSET', format_key, 'incarnation', incarnation, 'replication_id', replication_id)
  h[3] = incarnation
end
return { 'ok', h[1], h[2], h[3], h[5] }
