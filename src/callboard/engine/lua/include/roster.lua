-- The roster: which instances of an agent are live, what it reported, how healthy it is.
-- include place

-- An instance is a line in `agents:instances:{agent}`:
--
--   max_concurrent|prefetch|since|interval|pid|mark|host
--
-- The instance '' stands for an agent that runs without instances and heartbeats by its
-- name. A mark says that it ended and that what it held is being given back: l (lost) or
-- r (released), and the fence up to which that is done.
local ROSTER = {
  lost_after = 3, -- intervals without a heartbeat
  given_most = 200, -- tasks and reservations given back in one call
  gone_kept_ms = 86400000, -- then an agent without instances is forgotten
}

-- The agent with its instances and their last heartbeats; nil where there is none.
local function read_roster(t, id)
  local key = agent_key(t.prefix, id)
  local h = call('HMGET', key, 'profile', 'status', 'declared', 'gone', 'gone_since',
    'max_concurrent', 'interval_ms', 'load_metrics', 'lapsed', 'revision', 'indexed')
  if not h[1] then return nil end
  local roster = {
    id = id, key = key, profile = h[1], status = h[2], declared = h[3] or h[2], gone = h[4],
    gone_since = tonumber(h[5]) or 0, max_concurrent = tonumber(h[6]) or 100,
    interval = tonumber(h[7]) or 10000, load = h[8] or '{}', lapsed = tonumber(h[9]) or 0,
    revision = tonumber(h[10]) or 0, indexed = h[11] or nil, instances = {}, live = 0, beat = 0, left = ROSTER.given_most,
  }
  local raw = call('HGETALL', instances_key(t.prefix, id))
  if #raw == 0 then return roster end
  local members = {}
  for i = 1, #raw, 2 do members[#members + 1] = id .. '/' .. raw[i] end
  local beats = call('ZMSCORE', heartbeats_key(t.prefix), unpack_values(members))
  for i = 1, #raw, 2 do
    local run, ahead, since, interval, pid, mark, host =
      match(raw[i + 1], '^(%d+)|(%d+)|(%d+)|(%d+)|(%d*)|(%a?%d*)|(.*)$')
    local last = tonumber(beats[(i + 1) / 2] or since)
    roster.instances[raw[i]] = {
      run = tonumber(run), ahead = tonumber(ahead), since = since, interval = tonumber(interval),
      pid = pid, mark = mark, host = host, beat = last,
    }
    if last > roster.beat then roster.beat = last end
    if mark == '' then roster.live = roster.live + 1 end
  end
  return roster
end

-- The share of the time that an instance may be silent that has passed: 0 within its
-- interval, 1 where it counts as lost. After a gap everybody has the grace that leases
-- have, and an interval more, since only then each had the time to be heard.
local function silence(t, instance)
  local last, interval = instance.beat, instance.interval
  if last + ROSTER.lost_after * interval >= t.grace_from and t.ms < t.grace_until + interval then
    return 0
  end
  local share = (t.ms - last - interval) / ((ROSTER.lost_after - 1) * interval)
  return share < 0 and 0 or share > 1 and 1 or share
end

-- 1 less what speaks against the agent; docs/reference/agents.md has the table.
local function health_of(t, roster)
  if roster.live == 0 then return 0 end
  local missed, busiest, failing = 0, 0, 0
  for _, instance in pairs(roster.instances) do
    if instance.mark == '' then missed = missed + silence(t, instance) end
  end
  for name, value in gmatch(roster.load, '"([^"]+)":([^,}]+)') do
    value = tonumber(value) or 0
    if name == 'cpu' or name == 'memory' or name == 'load' then
      if value > busiest then busiest = value end
    elseif name == 'error_rate' then
      failing = value < 0 and 0 or value > 1 and 1 or value
    end
  end
  local declared = ({ error = 0.5, maintenance = 0.2, busy = 0.1 })[roster.declared] or 0
  local loaded = busiest > 0.8 and 0.3 or busiest > 0.6 and 0.1 or 0
  local lapsed = roster.lapsed > 3 and 0.3 or roster.lapsed * 0.1
  -- Not once it may be probed, else no task that asks for health could ever close it.
  local tripped = t.gated and breakers.shuts(breakers.agent(t, roster.id)) and 0.5 or 0
  local health = 1 - 0.5 * missed / roster.live - declared - loaded - 0.3 * failing - lapsed - tripped
  return health < 0 and 0 or health
end

-- Takes `name=value` pairs into the reported load, over the values of the same names.
local function merge_load(t, roster, pairs_text)
  if pairs_text == '' then return end
  local values, names, parts = {}, {}, {}
  local function take(name, value)
    if not values[name] then names[#names + 1] = name end
    values[name] = value
  end
  for name, value in gmatch(roster.load, '"([^"]+)":([^,}]+)') do take(name, value) end
  for name, value in gmatch(pairs_text, '([^=,]+)=([^,]+)') do take(name, value) end
  for i = 1, math.min(#names, 64) do parts[i] = '"' .. names[i] .. '":' .. values[names[i]] end
  roster.load = '{' .. concat(parts, ',') .. '}'
  hput(t, roster.key, 'load_metrics', roster.load)
end

