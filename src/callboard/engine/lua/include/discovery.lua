-- Finding agents: those that have all of what is asked for, healthiest first.
-- include roster

-- Among equally healthy ones the one registered first goes before. None is healthier than 1,
-- so the look, which goes by registration, ends once it has found as many such as are wanted.
-- Where capabilities are asked for it goes over the agents of the rarest one.
local discovery = { seen = 10000, page = 250 }

-- The key of the fewest agents among which all that have these capabilities are, in order of
-- registration: that of one of them, where all agents stand in those of theirs, else all.
local function narrowest(t, capabilities)
  local known, pcall_engine = agents_known_key(t.prefix), redis.pcall
  local count = call('ZCARD', known)
  local key, fewest = known, count
  if capabilities == '' or pcall_engine('ZCARD', capability_keys(t.prefix, '').all) ~= count then return known end
  for name in gmatch(capabilities, '[^,]+') do
    local one = capability_keys(t.prefix, name).one
    local its = pcall_engine('ZCARD', one)
    if type(its) == 'number' and its < fewest then key, fewest = one, its end
  end
  return key
end

-- At most `limit` of the agents, as { roster, health, order }.
function discovery.find(t, lane, status, tags, min_health, limit)
  local found, perfect, at = {}, 0, 0
  local is_any, pcall_engine = lane == ';;;;', redis.pcall
  local key = narrowest(t, match(lane, '^;[^;]*;([^;]*)') or '')
  -- Somebody else's value under our name is passed over.
  local function is_wanted(id)
    local h = pcall_engine('HMGET', agent_key(t.prefix, id), 'profile', 'status', 'tag_list')
    local profile = h[1]
    if not profile or status ~= '' and status ~= h[2] then return false end
    if not is_any and not fits(profile, lane) then return false end
    if tags == '' then return true end
    local missing = {}
    lacks(tags, h[3] or '', 'tag', missing)
    return #missing == 0
  end
  -- bounded by `seen`
  while at < discovery.seen and perfect < limit do
    local ids = call('ZRANGE', key, at, at + discovery.page - 1)
    for i = 1, #ids do
      local roster = is_wanted(ids[i]) and read_roster(t, ids[i])
      local health = roster and health_of(t, roster)
      if health and health >= min_health then
        found[#found + 1] = { roster = roster, health = health, order = at + i }
        if health == 1 then perfect = perfect + 1 end
        if perfect == limit then break end
      end
    end
    if #ids < discovery.page then break end
    at = at + discovery.page
  end
  table.sort(found, function(x, y)
    if x.health ~= y.health then return x.health > y.health end
    return x.order < y.order
  end)
  for i = #found, limit + 1, -1 do found[i] = nil end
  return found
end
