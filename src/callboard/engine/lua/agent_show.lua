-- Agents as JSON objects of the documented fields, made of the JSON that their hashes hold.
--
-- Those that have all of what is asked for, healthiest first, then by registration; at most
-- 10,000 known agents are looked at. Lists are comma-separated, empty for any. Health and
-- last heartbeat are as of now; a field that is not there has its default.
--
-- KEYS    format
-- ARGV    agent_id:str, agent_type:str, status:str, capabilities:str, services:str, labels:str, tags:str, min_health:num, limit:int
-- RETURNS ok now_ms objects | agent_not_found | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include discovery

local t, refusal = open(format_key, now)
if not t then return refusal end
local found = {}
if agent_id ~= '' then
  local roster = read_roster(t, agent_id)
  if not roster then return { 'agent_not_found' } end
  found[1] = { roster = roster, health = health_of(t, roster) }
else
  local lane = ';' .. agent_type .. ';' .. capabilities .. ';' .. services .. ';' .. labels
  found = discovery.find(t, lane, status, tags, min_health, limit)
end
-- UTC as the source documents write it: with an offset and microseconds.
local function offset(moment) return (string.gsub(moment or '', 'Z$', '000+00:00')) end

-- Where the agent belongs to, which is kept as labels.
local function place(name, labels)
  local value = match(labels or '', '"' .. name .. '":%s*"([^"]*)"')
  return value and ',"' .. name .. '":"' .. value .. '"' or ''
end

-- A value that somebody else's write has spoilt has its default.
local function list(text) return text and match(text, '^%[.*%]$') or '[]' end
local function object(text) return text and match(text, '^{.*}$') or '{}' end

local objects = {}
for i = 1, #found do
  local roster = found[i].roster
  local h = call('HMGET', roster.key, 'agent_type', 'capabilities', 'services', 'endpoints', 'metadata',
    'last_heartbeat', 'registration_time', 'version', 'tags', 'labels')
  objects[i] = concat({
    '{"agent_id":"', roster.id, '","agent_type":"', h[1] or '', '","status":"', roster.status,
    '","capabilities":', list(h[2]), ',"services":', list(h[3]), ',"endpoints":', object(h[4]),
    ',"metadata":', object(h[5]), ',"last_heartbeat":"', offset(roster.beat > 0 and iso(roster.beat) or h[6]),
    '","registration_time":"', offset(h[7]), '","load_metrics":', object(roster.load),
    ',"health_score":', format('%.3f', found[i].health), ',"version":', cjson.encode(h[8] or ''),
    ',"tags":', list(h[9]), place('chain_id', h[10]), place('island_id', h[10]), '}',
  })
end
return { 'ok', t.ms, objects }
