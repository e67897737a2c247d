-- The facts behind where a task stands: for waiting tasks what they wait for, and which
-- agents could serve them.
--
-- After the record: deadline or due time, unmet dependencies (at most 100, each with its
-- status word), extra fields, paused flags, agents by verdict: each `verdict|agent|missing`, of
-- the oldest 500, and of at most 500 later ones that fit; waiters, closed flag, the limit that holds it back and its value; and of the key that does: what, key, limit, used,
-- when the next may be claimed (ms), holders;
-- and of its kind's breaker, where that is open, what it says to a claim;
-- then the fields of the newest decision that gave the task to an agent; last how many agents
-- were looked at, at most 5,000, and how many are registered.
--
-- KEYS    format
-- ARGV    board_name:str, id:str
-- RETURNS ok now_ms facts | task_not_found outcome | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include place

local SEEN, FITTING_SEEN = 500, 5000
local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
if not r then return { 'task_not_found', call('HGET', b.keys.outcomes, id) or '' } end
local status, due = r[STATUS], ''
if HELD[status] then due = call('ZSCORE', b.keys.leases, id) or '' end
if status == 'a' then due = call('ZSCORE', b.keys.reserved, id) or '' end
if status == 's' then due = call('ZSCORE', b.keys.scheduled, id) or call('ZSCORE', b.keys.retry, id) or '' end
local needs, unmet = {}, 0
if status == 'b' then
  needs = call('SMEMBERS', b.keys.needs .. id)
  unmet = #needs
  for i = 1, math.min(unmet, 100) do
    local dep = load_record(b, needs[i])
    needs[i] = needs[i] .. '|' .. (dep and WORDS[dep[STATUS]] or 'unknown')
  end
  for i = unmet, 101, -1 do needs[i] = nil end
end
-- Of the agents behind the first ones, those that fit.
local function add_fitting(known, lane)
  local later, fitting = call('ZRANGE', agents_known_key(t.prefix), SEEN, FITTING_SEEN - 1), {}
  for i = 1, #later do
    local profile = redis.pcall('HGET', agent_key(t.prefix, later[i]), 'profile')
    if type(profile) == 'string' then
      if fitting[profile] == nil then fitting[profile] = #missing_for(profile, lane) == 0 end
      if fitting[profile] and #known < 2 * SEEN then known[#known + 1] = later[i] end
    end
  end
  return #later
end

local agents, ahead, looked_at = {}, 0, 0
if status == 'p' then
  ahead = call('ZRANK', b.keys.lane .. r[LANE], id) or 0
  local known = call('ZRANGE', agents_known_key(t.prefix), 0, SEEN - 1)
  looked_at = #known
  if looked_at == SEEN then looked_at = SEEN + add_fitting(known, r[LANE]) end
  for i = 1, #known do
    local agent = load_agent(t, known[i])
    local verdict, missing = 'unknown', ''
    if agent then
      missing = concat(missing_for(agent.profile, r[LANE]), ', ')
      if missing ~= '' then
        verdict = 'does_not_fit'
      elseif not serves(agent, r[LANE]) then
        verdict = 'unhealthy'
      elseif not takes_work(agent) then
        verdict, missing = 'draining', agent.status
      elseif agent.held >= agent.limit then
        verdict = 'full'
      elseif t.gated and breakers.shuts(breakers.agent(t, known[i])) then
        verdict = 'breaker_open'
      else
        verdict = 'could_claim'
        local h = call('HMGET', agent_key(t.prefix, known[i]), 'alone', 'undelivered')
        local rests_until = h[1] and tonumber(match(h[2] or '', '^%d+|(%d+)') or '0') or 0
        if rests_until > t.ms then verdict, missing = 'resting', rests_until end
      end
    end
    agents[i] = verdict .. '|' .. known[i] .. '|' .. missing
  end
end
local room, limit = room_of(b)
if status ~= 'p' or room > b.reserved then limit = '' end
local extra = has(r, 'E') and call('HGETALL', b.keys.extra .. id) or {}
return { 'ok', t.ms, concat(r, '|', 1, 16), due, unmet, needs, extra, b.paused and 1 or 0,
  kind_paused(b, r[LANE]) and 1 or 0, ahead, agents, #waiters_of(b), b.closed and 1 or 0,
  limit, limit ~= '' and b[limit] or 0,
  status == 'p' and flow.explain(t, r[LANE]) or {},
  status == 'p' and t.gated and breakers.refusal(breakers.kind(t, r[LANE])) or {},
  (HELD[status] or status == 'a' or status == 'd') and chooser.last(b, id) or {},
  looked_at, call('ZCARD', agents_known_key(t.prefix)) }
