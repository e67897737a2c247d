-- Keep a team's document as its next version, unless it is the newest one already.
--
-- `document` is a JSON object. Versions never change, and a number is never given twice,
-- not even after the team was removed; the 50 newest are kept.
--
-- KEYS    format
-- ARGV    team:str, by:str, author:str, message:str, document:str
-- RETURNS ok version | same version | no_namespace | newer_format
-- EVENTS  team:saved
-- REPEAT  by state
-- include open

local VERSIONS_KEPT = 50
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = team_keys(t.prefix, team)
local newest = tonumber(call('HGET', keys.all, team) or 0) -- below zero once it was removed
local begin = '{"document":' .. document .. ',"at":'
local last = call('HGET', keys.versions, newest)
if last and string.sub(last, 1, #begin) == begin then return { 'same', newest } end
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
local version = math.abs(newest) + 1
hput(t, keys.all, team, version)
hput(t, keys.versions, version,
  begin .. t.ms .. ',"by":' .. author .. ',"message":' .. message .. '}')
hput(t, keys.versions, version - VERSIONS_KEPT, false)
fact(t, 'team:saved', '', team, 'saved', '', 0, tostring(version))
close(t)
return { 'ok', version }
