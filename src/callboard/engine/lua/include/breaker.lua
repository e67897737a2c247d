-- Circuit breakers: whether a call may be made, what its outcome does to the breaker, and the
-- permits that claims hold where a breaker gates an agent or a kind.
--
-- A permit is a fence, and so is the generation, which a trip or a person's hand renews: a
-- permit below it is from before, and its outcome is stale. Only half-open breakers list
-- their permits, as `permit:deadline,…`; a claim's has the deadline 0, since each end of a
-- claim records. A policy is one text of eight numbers, written by domain/breaker.py.
-- include record

local PROBE_WAIT_MS = 1000
local BREAKER_UNUSED_MS = 604800000
local breakers = {}

do
  local BUCKETS = 10 -- of a window
  local RECORDED_MOST = 100 -- permits that are known again
  local FIELDS = { 'state', 'policy', 'isolated', 'gates', 'generation', 'opened_at', 'failures',
    'successes', 'probes', 'window', 'total', 'rejected', 'kept' }
  local POLICY = '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+)$'
  local USUAL = '5:0:60000:20:60000:2:3:30000' -- of one that is isolated, and was never configured
  local TYPES = {
    open = 'circuit_breaker_opened', ['half-open'] = 'circuit_breaker_half_open',
    closed = 'circuit_breaker_closed',
  }

  local function put(k, field, value) hput(k.t, k.keys.breaker, field, value) end

  function breakers.set_policy(k, text)
    local failures, ratio, window, volume, open_for, half_open, closes_after, permit =
      match(text, POLICY)
    if not failures then return false end
    k.policy, k.trips_at, k.ratio = text, tonumber(failures), tonumber(ratio) / 1000
    k.bucket_ms, k.volume = tonumber(window) / BUCKETS, tonumber(volume)
    k.open_ms, k.half_open = tonumber(open_for), tonumber(half_open)
    k.closes_after, k.permit_ms = tonumber(closes_after), tonumber(permit)
    return true
  end

  -- A breaker, or the room for one (`is_new`) where nobody configured or isolated any.
  local function read(t, component, h)
    local k = {
      t = t, component = component, keys = breaker_keys(t.prefix, component),
      state = h[1] or 'closed', isolated = h[3] == '1', gates = h[4] == '1',
      chosen = 0, generation = tonumber(h[5]) or 0, opened_at = tonumber(h[6]) or 0,
      failures = tonumber(h[7]) or 0, successes = tonumber(h[8]) or 0, probes = {},
      window = h[10] or '', total = tonumber(h[11]) or 0, rejected = tonumber(h[12]) or 0,
      is_kept = h[13] == '1', is_new = not (h[2] or h[3]),
    }
    if not h[2] or not breakers.set_policy(k, h[2]) then breakers.set_policy(k, USUAL) end
    for permit, deadline in gmatch(h[9] or '', '(%d+):(%d+)') do
      k.probes[#k.probes + 1] = { tonumber(permit), tonumber(deadline) }
    end
    return k
  end

  -- For the breaker's own functions: fails with WRONGTYPE where a key is somebody else's, of
  -- those that list breakers where one is made, changed or removed.
  function breakers.fetch(t, component, will_change)
    local k = read(t, component, call('HMGET', breaker_keys(t.prefix, component).breaker,
      unpack_values(FIELDS)))
    if will_change then
      touch('ZCARD', k.keys.all)
      touch('SCARD', k.keys.gates)
    end
    touch('XLEN', events_key(t.prefix))
    return k
  end

  -- For claims: the breaker that gates them, or nil; read once a call. Of somebody else's
  -- value under its name a claim takes no notice.
  local function gate(t, component)
    t.breakers = t.breakers or {}
    local k = t.breakers[component]
    if k == nil then
      local h = redis.pcall('HMGET', breaker_keys(t.prefix, component).breaker, unpack_values(FIELDS))
      k = not h.err and h[4] == '1' and read(t, component, h)
      t.breakers[component] = k
    end
    return k or nil
  end

  local function save_probes(k)
    local parts = {}
    for i = 1, #k.probes do parts[i] = int(k.probes[i][1]) .. ':' .. int(k.probes[i][2]) end
    put(k, 'probes', #parts > 0 and concat(parts, ',') or false)
  end

  -- Drops the permits whose lease is over, and those of claims that it gates no more: nobody
  -- records how they end.
  local function prune(k)
    local live = {}
    for i = 1, #k.probes do
      local deadline = k.probes[i][2]
      local is_out = deadline == 0 and k.gates or deadline > 0 and not is_over(k.t, deadline)
      if is_out then live[#live + 1] = k.probes[i] end
    end
    k.probes = live
  end

  -- Has it gate claims from here on, or not.
  function breakers.set_gates(k, gates)
    k.gates = gates
    put(k, 'gates', gates and '1' or false)
    prune(k)
    save_probes(k)
  end

  local function is_due(k)
    return k.state == 'open' and not k.isolated and k.opened_at + k.open_ms <= k.t.ms
  end

  -- How many more permits the breaker would give out now; `chosen` are as good as given.
  function breakers.room(k)
    if k.state == 'closed' then return math.huge end
    if k.state == 'open' then return is_due(k) and k.half_open - k.chosen or 0 end
    prune(k)
    return k.half_open - #k.probes - k.chosen
  end

  -- In how many ms to ask again, -1 where that is for a person to say. A probe may end at any
  -- time; at the latest its lease does.
  function breakers.retry_ms(k)
    if k.isolated then return -1 end
    if k.state == 'open' then return math.max(0, k.opened_at + k.open_ms - k.t.ms) end
    local first = PROBE_WAIT_MS
    for i = 1, #k.probes do
      local deadline = k.probes[i][2]
      if deadline > 0 then first = math.max(0, math.min(first, deadline - k.t.ms)) end
    end
    return first
  end

  -- Moves to another state, with its event and its documented message. `said` is the reason
  -- as JSON where a person gave it.
  function breakers.move(k, to, reason, said)
    local t, from = k.t, k.state
    k.state, k.probes, k.successes, k.window = to, {}, 0, ''
    put(k, 'state', to)
    put(k, 'probes', false)
    put(k, 'successes', false)
    put(k, 'window', false)
    if to == 'open' then
      k.opened_at, k.generation = t.ms, take_fences(t, 1)
      put(k, 'opened_at', t.ms)
      put(k, 'generation', int(k.generation))
      put(k, 'recorded', false) -- all from before are stale now
    elseif to == 'closed' then
      k.failures, k.opened_at = 0, 0
      put(k, 'failures', false)
      put(k, 'opened_at', false)
    end
    if from == to then return end
    if to == 'open' then count_in_totals(t, 'trips') end
    local line = string.gsub(reason, '%c', ' ') -- a fact is one line
    fact(t, 'circuitbreaker:state-change', '', k.component, to, '', int(k.generation), from .. '|' .. line)
    if t.channels then
      local why = to ~= 'half-open' and ',"reason":' .. (said or '"' .. reason .. '"') or ''
      call('PUBLISH', k.keys.channel, '{"type":"' .. TYPES[to] .. '","component":"' .. k.component
        .. '"' .. why .. ',"timestamp":"' .. iso(t.ms) .. '"}')
    end
  end

  -- Counts a call that goes ahead; the caller has seen that there is room. A breaker that was
  -- open long enough is half-open from here on.
  function breakers.admit(k, permit, deadline)
    if is_due(k) then breakers.move(k, 'half-open', 'open time over') end
    k.total = k.total + 1
    put(k, 'total', int(k.total))
    put(k, 'used_at', k.t.ms)
    if k.state == 'half-open' then
      k.probes[#k.probes + 1] = { permit, deadline }
      save_probes(k)
    end
  end

  -- Takes a permit off the list of a half-open breaker; false where it is not on it.
  local function give_up(k, permit)
    for i = 1, #k.probes do
      if k.probes[i][1] == permit then
        table.remove(k.probes, i)
        save_probes(k)
        return true
      end
    end
    return false
  end

  -- Adds an outcome to the window; answers the failures and all calls within it.
  local function count(k, failed)
    local now, parts, failures, all = floor(k.t.ms / k.bucket_ms), {}, 0, 0
    local ok, bad = failed and 0 or 1, failed and 1 or 0
    for bucket, good, wrong in gmatch(k.window, '(%d+):(%d+):(%d+)') do
      bucket, good, wrong = tonumber(bucket), tonumber(good), tonumber(wrong)
      if bucket == now then
        ok, bad = ok + good, bad + wrong
      elseif bucket > now - BUCKETS then
        parts[#parts + 1] = int(bucket) .. ':' .. int(good) .. ':' .. int(wrong)
        failures, all = failures + wrong, all + good + wrong
      end
    end
    parts[#parts + 1] = int(now) .. ':' .. int(ok) .. ':' .. int(bad)
    k.window = concat(parts, ',')
    put(k, 'window', k.window)
    return failures + bad, all + ok + bad
  end

  -- What an outcome does to a closed breaker.
  local function count_closed(k, failed)
    local run = failed and k.failures + 1 or 0
    if run ~= k.failures then put(k, 'failures', run) end
    k.failures = run
    local reason = k.trips_at > 0 and run >= k.trips_at
      and (run == 1 and '1 failure' or int(run) .. ' failures in a row')
    if k.ratio > 0 then
      local failures, all = count(k, failed)
      if all >= k.volume and failures >= k.ratio * all then
        reason = int(failures) .. ' of ' .. int(all) .. ' calls failed'
      end
    end
    if reason then breakers.move(k, 'open', reason) end
  end

  -- Whether the permit is the first time recorded, and was given: fences above the last
  -- were not. The last hundred are remembered, as `permit,…`.
  function breakers.is_first(k, permit)
    if permit > k.t.fence then return false end
    k.recorded = call('HGET', k.keys.breaker, 'recorded') or ''
    return not string.find(',' .. k.recorded .. ',', ',' .. int(permit) .. ',', 1, true)
  end

  local function remember_recorded(k, permit)
    local text, count = int(permit), 1
    for earlier in gmatch(k.recorded, '%d+') do
      if count == RECORDED_MOST then break end
      text, count = text .. ',' .. earlier, count + 1
    end
    put(k, 'recorded', text)
  end

  -- Records how a call ended: success, failure or ignored, which only frees the permit.
  -- Answers false for a stale outcome, which changes nothing.
  function breakers.record(k, permit, outcome)
    if permit < k.generation or k.state == 'open' then return false end
    local is_probe = k.state == 'half-open'
    if is_probe and not give_up(k, permit) then return false end
    put(k, 'used_at', k.t.ms)
    if k.recorded then remember_recorded(k, permit) end -- a claim ends once by itself
    if outcome == 'ignored' then return true end
    local failed = outcome == 'failure'
    put(k, failed and 'last_failure_at' or 'last_success_at', k.t.ms)
    if not is_probe then
      count_closed(k, failed)
    elseif failed then
      k.failures = k.failures + 1
      put(k, 'failures', k.failures)
      breakers.move(k, 'open', 'a probe failed')
    else
      k.successes = k.successes + 1
      put(k, 'successes', k.successes)
      if k.successes >= k.closes_after then breakers.move(k, 'closed', 'recovery_successful') end
    end
    return true
  end

  -- Pushes a probe's deadline forward; false where the permit is not out any more.
  function breakers.renew(k, permit, deadline)
    if permit < k.generation or k.state == 'open' then return false end
    if k.state == 'closed' then return true end
    for i = 1, #k.probes do
      if k.probes[i][1] == permit then
        k.probes[i][2] = math.max(k.probes[i][2], deadline)
        save_probes(k)
        return true
      end
    end
    return false
  end

  -- Of claims. The components are `agent:{id}` and `kind:{name}`.

  function breakers.agent(t, id) return gate(t, 'agent:' .. id) end

  function breakers.kind(t, lane) return gate(t, 'kind:' .. match(lane, '^[^;]*')) end

  -- Whether a breaker may gate the agent, or the lane's kind: asked of many agents, by which
  -- components gate at all, read once a call. Where they are too many to read, it may.
  function breakers.may_gate(t, agent_id, lane)
    local names = t.gating
    if names == nil then
      local key = breaker_keys(t.prefix, '').gates
      local count = redis.pcall('SCARD', key)
      names = {}
      if type(count) ~= 'number' or count > 1000 then names.all = true end
      local members = names.all and {} or call('SMEMBERS', key)
      for i = 1, #members do names[members[i]] = true end
      t.gating = names
    end
    return names.all or names['agent:' .. agent_id] or names['kind:' .. match(lane, '^[^;]*')]
  end

  -- Whether nothing that the breaker gates may be claimed now.
  function breakers.shuts(k) return k ~= nil and breakers.room(k) < 1 end

  -- Whether work may be offered: what is probed is claimed, not pushed.
  function breakers.offers(t, agent_id, lane)
    local a, b = breakers.agent(t, agent_id), breakers.kind(t, lane)
    return not (a and a.state ~= 'closed' or b and b.state ~= 'closed')
  end

  -- How many tasks the agent may claim.
  function breakers.claims(t, agent_id)
    local k = breakers.agent(t, agent_id)
    return k and breakers.room(k) or math.huge
  end

  -- Why a breaker keeps a claim from being made, or nil.
  function breakers.refusal(k)
    if not breakers.shuts(k) then return nil end
    return { 'breaker_open', k.component, k.state, breakers.retry_ms(k), #k.probes }
  end

  -- How many tasks of the lane may be claimed.
  function breakers.room_of(t, lane)
    local k = breakers.kind(t, lane)
    return k and breakers.room(k) or math.huge
  end

  -- Counts tasks of the lane that this call has chosen, and will give permits.
  function breakers.choose(t, lane, count)
    local k = breakers.kind(t, lane)
    if k then k.chosen = k.chosen + count end
  end

  -- Whether a claim of this agent in this lane holds permits.
  function breakers.gates(t, agent_id, lane)
    return breakers.agent(t, agent_id) ~= nil or breakers.kind(t, lane) ~= nil
  end

  -- Gives the claim its permits, which are its fence.
  function breakers.begin_claim(t, r, agent_id)
    local a, b = breakers.agent(t, agent_id), breakers.kind(t, r[LANE])
    local permit = tonumber(r[FENCE])
    if a then breakers.admit(a, permit, 0) end
    if b then
      b.chosen = math.max(0, b.chosen - 1)
      breakers.admit(b, permit, 0)
    end
    if a or b then flag(r, 'O') end
  end

  -- Records how a claim ended, once: a later call for the same claim finds the flag gone.
  function breakers.end_claim(t, r, outcome)
    if not has(r, 'O') then return end
    unflag(r, 'O')
    local permit = tonumber(r[FENCE])
    local a, b = breakers.agent(t, agent_of(r)), breakers.kind(t, r[LANE])
    if a then breakers.record(a, permit, outcome) end
    if b then breakers.record(b, permit, outcome) end
  end
end
