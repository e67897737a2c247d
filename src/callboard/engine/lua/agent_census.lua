-- How many agents are known, by status and by type, and what they offer between them.
--
-- At most 10,000 agents are looked at. Statuses are as they were settled last.
--
-- KEYS    format
-- ARGV    kinds_most:int
-- RETURNS ok total statuses types services capabilities | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include place

local SEEN = 10000
local t, refusal = open(format_key, now)
if not t then return refusal end
local ids = call('ZRANGE', agents_known_key(t.prefix), 0, SEEN - 1)
local statuses, types, services, capabilities = {}, {}, {}, {}

local function add(list, name)
  if not list[name] then list[#list + 1] = name end
  list[name] = (list[name] or 0) + 1
end

local function add_all(list, names)
  for name in gmatch(names, '[^,]+') do add(list, name) end
end

for i = 1, #ids do
  local key = agent_key(t.prefix, ids[i])
  -- Somebody else's value under our name is passed over.
  if call('TYPE', key).ok == 'hash' then
    local h = call('HMGET', key, 'profile', 'status')
    local agent_type, able, offered = match(h[1] or '', '^([^;]*);([^;]*);([^;]*);')
    if agent_type then
      add(statuses, h[2] or '')
      add(types, agent_type)
      add_all(capabilities, able)
      add_all(services, offered)
    end
  end
end

local function told(list)
  local flat = {}
  for i = 1, math.min(#list, kinds_most) do
    flat[#flat + 1] = list[i]
    flat[#flat + 1] = list[list[i]]
  end
  return flat
end

return { 'ok', call('ZCARD', agents_known_key(t.prefix)), told(statuses), told(types), #services, #capabilities }
