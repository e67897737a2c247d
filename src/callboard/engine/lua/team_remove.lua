-- Remove a team with all of its versions; only the number of the last one is remembered.
--
-- KEYS    format
-- ARGV    team:str, by:str
-- RETURNS ok version | team_not_found | no_namespace | newer_format
-- EVENTS  team:removed
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = team_keys(t.prefix, team)
local newest = tonumber(call('HGET', keys.all, team) or 0)
if newest <= 0 then return { 'team_not_found' } end
touch('HLEN', keys.versions)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
hput(t, keys.all, team, -newest)
call('DEL', keys.versions)
fact(t, 'team:removed', '', team, 'removed', '', 0, tostring(newest))
close(t)
return { 'ok', newest }
