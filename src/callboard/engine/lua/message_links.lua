-- The peers, subordinates or topics of an agent, or of all agents; or a topic's subscribers.
--
-- Four values each: whose, name, since when (ms), types. At most `limit` of them.
--
-- KEYS    format
-- ARGV    relation:str, name:str, limit:int
-- RETURNS ok now_ms links | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include message

local AGENTS_SEEN = 10000
local t, refusal = open(format_key, now)
if not t then return refusal end
local common, found = message_keys(t.prefix, ''), {}
local function keep(whose, other, since, types)
  if #found < limit * 4 then
    local n = #found
    found[n + 1], found[n + 2], found[n + 3], found[n + 4] = whose, other, since, types
  end
end
if relation == 'subscribers' then
  local flat = call('HGETALL', common.topic .. name)
  for i = 1, #flat, 2 do
    local since, types = match(flat[i + 1], '^(%d+)|(.*)$')
    keep(name, flat[i], since or '0', types or '')
  end
else
  local agents = name ~= '' and { name } or call('ZRANGE', common.all, 0, AGENTS_SEEN - 1)
  for i = 1, #agents do
    if #found >= limit * 4 then break end
    local rows = call('ZRANGE', message_keys(t.prefix, agents[i])[relation], 0, -1, 'WITHSCORES')
    for n = 1, #rows, 2 do
      local types = ''
      if relation == 'topics' then
        local line = call('HGET', common.topic .. rows[n], agents[i])
        types = line and match(line, '|(.*)$') or ''
      end
      keep(agents[i], rows[n], rows[n + 1], types)
    end
  end
end
return { 'ok', t.ms, found }
