-- Flow control: what the keys of waiting tasks allow, what running ones occupy, whose turn
-- it is.
--
-- A lane's seventh field is `concurrency,rate,fairness`: the keys that all of its tasks
-- have; lanes of tasks without keys end before it. What is set for a key stands in
-- `flow:limits`, for all that begin alike in `flow:patterns`, as
--
--   concurrency|interval us|burst|paused|weight
--
-- with each field empty where it is not set, and u where it is set to no limit.
--
-- A slot of a concurrency key is a claim: `flow:slots:{key}` has board:id by fence, written
-- where the claim is granted and removed where `leave` ends it. A rate is kept as gcra.lua
-- says: `flow:rates` has the theoretical arrival time, in us, of the next claim. Fairness keys
-- take turns by start-time fair queueing (Goyal, Vin and Cheng, 1996): `fair` has the start tag
-- of each key's next task; the least goes first, and moves on by 1 / weight.
-- include record, gcra

-- Scores beyond this are no places: these stand aside.
local FLOW_ASIDE = 4503599627370496

local flow = {}

do
  local NO_KEYS = {}
  local NOTHING = {}
  local LANES_CACHED = 20000
  local LANES_RUNG = 64
  local HELD_BACK_SEEN = 64 -- lanes, by one claim; others that are held back stand aside
  local ASIDE_US = 1000000
  local FLOW_LANE = '^[^;]*;[^;]*;[^;]*;[^;]*;[^;]*;[^;]*;([^,;]*),([^,;]*),([^,;]*)$'
  local KINDS = { 'concurrency', 'rate', 'fairness' }
  local cache, cached = {}, 0

  -- The keys of a lane's tasks, or false: a pure function, so its results outlive the call.
  function flow.of(lane)
    local keys = cache[lane]
    if keys ~= nil then return keys end
    if cached >= LANES_CACHED then cache, cached = {}, 0 end
    local concurrency, rate, fairness = match(lane, FLOW_LANE)
    keys = false
    if concurrency then
      keys = {
        concurrency = concurrency ~= '' and concurrency or nil, rate = rate ~= '' and rate or nil,
        fairness = fairness ~= '' and fairness or nil,
      }
    end
    cache[lane] = keys
    cached = cached + 1
    return keys
  end

  -- Whether a claim of the lane's tasks has to be noted.
  function flow.counts(lane)
    local keys = flow.of(lane)
    return keys and (keys.concurrency or keys.rate)
  end

  -- The keys' names in the engine, once a call.
  function flow.keys(t)
    if not t.flow_keys then t.flow_keys = flow_keys(t.prefix) end
    return t.flow_keys
  end

  function flow.read(raw)
    local concurrency, interval, burst, paused, weight =
      match(raw or '', '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
    if not concurrency then return NOTHING end
    local function value(text) return text ~= '' and (tonumber(text) or text) or nil end
    return { concurrency = value(concurrency), interval = value(interval), burst = value(burst),
      paused = value(paused), weight = value(weight) }
  end

  -- All patterns with what is set for them, the longest first.
  local function patterns_of(t)
    if t.flow_patterns then return t.flow_patterns end
    local rows, found = call('HGETALL', flow.keys(t).patterns), {}
    for i = 1, #rows, 2 do
      found[#found + 1] = { start = string.sub(rows[i], 1, -2), set = flow.read(rows[i + 1]) }
    end
    table.sort(found, function(x, y) return #x.start > #y.start end)
    t.flow_patterns = found
    return found
  end

  -- What holds for a key: its own, and where it has none, that of the longest pattern.
  function flow.settings(t, key)
    if not t.limited then return NOTHING end
    t.flow_settings = t.flow_settings or {}
    local known = t.flow_settings[key]
    if known then return known end
    local own = flow.read(call('HGET', flow.keys(t).limits, key))
    known = {}
    for name, value in pairs(own) do known[name] = value end
    local patterns = patterns_of(t)
    for i = 1, #patterns do
      local p = patterns[i]
      if string.sub(key, 1, #p.start) == p.start then
        for name, value in pairs(p.set) do
          if known[name] == nil and not (name == 'burst' and own.interval) then known[name] = value end
        end
      end
    end
    for name, value in pairs(known) do
      if value == 'u' then known[name] = nil end
    end
    t.flow_settings[key] = known
    return known
  end

  -- When the next claim of a rate would come by what was claimed so far.
  local function arrival(t, key, interval, burst)
    local rates = flow.keys(t).rates
    local moved = t.sets[rates] and t.sets[rates][key]
    return gcra.arrival(tonumber(moved or call('ZSCORE', rates, key) or 0), t.now, interval, burst)
  end

  -- When a rate lets the next claim through, in us; now or before where it does at once.
  function flow.next_at(t, key, set)
    local burst = set.burst or 1
    return gcra.next_at(arrival(t, key, set.interval, burst), set.interval, burst)
  end

  -- After a key's settings changed: what was claimed by another rate keeps nobody waiting for
  -- longer than an interval of the one that holds now.
  function flow.shorten(t, key, set)
    local rates = flow.keys(t).rates
    local at = tonumber(call('ZSCORE', rates, key) or 0)
    local most = set.interval and t.now + (set.burst or 1) * set.interval
    if most and at > most then zput(t, rates, key, int(most)) end
  end

  -- A key within one call: how many slots and turns it has left, as the call goes on.
  local function state_of(t, key)
    t.flow = t.flow or {}
    local state = t.flow[key]
    if state then return state end
    local set, keys = flow.settings(t, key), flow.keys(t)
    state = { is_paused = set.paused == 1, slots = math.huge, turns = math.huge }
    if set.concurrency then
      local slots, change = keys.slots .. key, 0
      for _, score in pairs(t.sets[slots] or NOTHING) do change = change + (score and 1 or -1) end
      state.slots = set.concurrency - call('ZCARD', slots) - change
    end
    if set.interval then
      state.interval, state.burst = set.interval, set.burst or 1
      state.tat = arrival(t, key, state.interval, state.burst)
      state.turns = floor((t.now - state.tat) / state.interval) + state.burst
      state.next_at = gcra.next_at(state.tat, state.interval, state.burst)
    end
    t.flow[key] = state
    return state
  end

  -- How many tasks of the lane may be claimed, and where that is none which key says so.
  function flow.room(t, lane)
    local keys = t.limited and flow.of(lane)
    if not keys then return math.huge end
    for i = 1, #KINDS do
      local key = keys[KINDS[i]]
      if key and state_of(t, key).is_paused then return 0, 'paused', key end
    end
    local room, why = math.huge, nil
    if keys.concurrency then
      room, why = state_of(t, keys.concurrency).slots, 'concurrency'
    end
    if keys.rate and state_of(t, keys.rate).turns < room then
      room, why = state_of(t, keys.rate).turns, 'rate'
    end
    if room > 0 then return room end
    return 0, why, keys[why]
  end

  -- Whether anything is set that may hold the lane's tasks back.
  function flow.is_limited(t, lane)
    local keys = t.limited and flow.of(lane)
    if not keys then return false end
    for i = 1, #KINDS do
      local set = keys[KINDS[i]] and flow.settings(t, keys[KINDS[i]])
      if set and (set.paused == 1 or i == 1 and set.concurrency or i == 2 and set.interval) then
        return true
      end
    end
    return false
  end

  -- Counts `n` tasks of the lane that this call has chosen.
  function flow.choose(t, lane, n)
    local keys = t.limited and flow.of(lane)
    if not keys then return end
    if keys.concurrency then
      local state = state_of(t, keys.concurrency)
      state.slots = state.slots - n
    end
    if keys.rate then
      local state = state_of(t, keys.rate)
      state.turns = state.turns - n
      if state.interval then state.next_at = state.next_at + n * state.interval end
    end
  end

  -- Whether one more task of the lane may be chosen, which is counted. Where the keys have
  -- limits nothing is claimed ahead of its start: it would be kept from those who are idle.
  function flow.admit(t, lane, is_ahead)
    local room, why, key = flow.room(t, lane)
    if room <= 0 then
      flow.note(t, why, key)
      return false
    end
    if is_ahead and flow.is_limited(t, lane) then return false end
    flow.choose(t, lane, 1)
    return true
  end

  -- Remembers when the first of the rates that held something back lets a task through.
  function flow.note(t, why, key)
    local state = why == 'rate' and state_of(t, key)
    if state and (not t.flow_next or state.next_at < t.flow_next.next_at) then t.flow_next = state end
  end

  -- Where this call has met many that are held back already: puts a lane behind the others
  -- of its heads, or a fairness key behind the others in line, so that not each claim looks
  -- at each of them. `wake`, and whatever changes the lane, put it back, or else a claim or
  -- sweep after a second, or sooner where a rate says so.
  function flow.stand_aside(b, key, member, why, by)
    local t = b.t
    if why then t.flow_held_back = (t.flow_held_back or 0) + 1 end
    if (t.flow_held_back or 0) <= HELD_BACK_SEEN then return end
    local again = t.now + ASIDE_US
    if why == 'rate' then again = math.min(again, math.ceil(state_of(t, by).next_at)) end
    zput(t, key, member, int(FLOW_ASIDE + again))
    zput(t, b.keys.aside, member, int(again))
    if not b.has_aside then
      b.has_aside = true
      hput(t, b.keys.board, 'aside', '1')
    end
  end

  -- A lane back to its place, with the fairness key that it belongs to.
  local function put_back(b, lane)
    local t, fairness = b.t, b.is_fair and ((flow.of(lane) or NO_KEYS).fairness or '')
    b.lanes[lane], t.flow_put_back = true, true
    zput(t, b.keys.aside, lane, false)
    if fairness and tonumber(call('ZSCORE', b.keys.fair, fairness) or 0) >= FLOW_ASIDE then
      zput(t, b.keys.fair, fairness, b.virtual)
      zput(t, b.keys.aside, fairness, false)
    end
  end

  -- Puts back what has stood aside for long enough, at most `limit`; answers how many. A
  -- member without a semicolon is a fairness key.
  function flow.put_back_due(b, limit)
    if not b.has_aside then return 0 end
    local t, rows = b.t, call('ZRANGEBYSCORE', b.keys.aside, '-inf', int(b.t.now), 'LIMIT', 0, limit)
    for i = 1, #rows do
      if string.find(rows[i], ';', 1, true) then
        put_back(b, rows[i])
      else
        zput(t, b.keys.aside, rows[i], false)
        if call('ZSCORE', b.keys.fair, rows[i]) then zput(t, b.keys.fair, rows[i], b.virtual) end
        local lanes = call('ZRANGEBYSCORE', b.keys.fair_heads .. rows[i], FLOW_ASIDE, '+inf', 'LIMIT', 0, limit)
        for j = 1, #lanes do put_back(b, lanes[j]) end
      end
    end
    if #rows == 0 and call('ZCARD', b.keys.aside) == 0 then
      b.has_aside = false
      hput(t, b.keys.board, 'aside', false)
    end
    return #rows
  end

  -- In how many ms an idle claimer should ask again for the sake of a rate; '' where none
  -- held anything back. Those who wait ask one after another, an interval apart.
  function flow.again_ms(t, rank)
    local state = t.flow_next
    if not state then return '' end
    local apart = math.min(rank * state.interval, 1000000)
    return int(math.max(1, math.ceil((state.next_at + apart - t.now) / 1000)))
  end

  -- A claim is granted: it occupies a slot and has had its turn.
  function flow.grant(b, id, r, fence)
    local keys, t = flow.of(r[LANE]), b.t
    if not keys then return end
    if keys.concurrency then
      flag(r, 'Q')
      zput(t, flow.keys(t).slots .. keys.concurrency, b.name .. ':' .. id, fence)
    end
    local set = keys.rate and flow.settings(t, keys.rate)
    if set and set.interval then
      local tat = arrival(t, keys.rate, set.interval, set.burst or 1)
      zput(t, flow.keys(t).rates, keys.rate, int(tat + set.interval))
    end
  end

  -- A claim with a slot has ended: whoever waits for it is woken in `finish`.
  function flow.free(b, id, r)
    local keys, t = flow.of(r[LANE]), b.t
    unflag(r, 'Q')
    zput(t, flow.keys(t).slots .. keys.concurrency, b.name .. ':' .. id, false)
    if t.limited then flow.wake_later(t, keys.concurrency) end
    if t.flow then t.flow[keys.concurrency] = nil end
  end

  function flow.wake_later(t, key)
    t.flow_wakes = t.flow_wakes or {}
    t.flow_wakes[key] = true
  end

  -- A task with limits came to its lane: who may have it is woken in `finish`.
  function flow.arrived(t, lane)
    local keys = flow.of(lane)
    local key = keys.concurrency or keys.rate or keys.fairness
    flow.wake_later(t, key)
  end

  -- Rings as many waiting instances, of all boards, as the keys have room and work for;
  -- each looks for itself. `waiter_for` is what place.lua calls the best waiter; it stands on this.
  function flow.wake(t, waiter_for)
    local wakes = t.flow_wakes
    if not wakes then return end
    t.flow_wakes, t.flow = nil, nil
    for key in pairs(wakes) do
      local rows = call('ZRANGE', flow.keys(t).lanes .. key, 0, LANES_RUNG - 1)
      for i = 1, #rows do
        local name, lane = match(rows[i], '^([^|]*)|(.*)$')
        local room = flow.room(t, lane)
        local b = room > 0 and board(t, name)
        if b and b.has_aside and call('ZSCORE', b.keys.aside, lane) then put_back(b, lane) end
        local waiter = b and waiter_for(b, lane)
        local waiting = waiter and call('ZCARD', b.keys.lane .. lane) or 0
        while waiter and room > 0 and waiting > 0 do -- bounded by what the waiters seen want
          local bell = agent_bell(t.prefix, waiter.member)
          t.bells[bell] = t.bells[bell] or b.name
          waiter.wants, room, waiting = waiter.wants - 1, room - 1, waiting - 1
          flow.choose(t, lane, 1)
          waiter = waiter_for(b, lane)
        end
      end
    end
  end

  -- Why the lane's tasks may not be claimed: what holds them back, which key, of what limit,
  -- how much is used, when a rate lets the next through (ms), and some of the holders.
  function flow.explain(t, lane)
    local room, why, key = flow.room(t, lane)
    if room > 0 then return { '', '', 0, 0, 0, {} } end
    local set, slots = flow.settings(t, key), flow.keys(t).slots .. key
    if why == 'concurrency' then
      return { why, key, set.concurrency, call('ZCARD', slots), 0, call('ZRANGE', slots, 0, 4) }
    end
    return { why, key, 0, 0, why == 'rate' and math.ceil(state_of(t, key).next_at / 1000) or 0, {} }
  end

  -- Fails with WRONGTYPE, before anything was written, where what a task of this lane would
  -- be noted in is somebody else's.
  function flow.touch(b, lane)
    local keys = flow.of(lane)
    for i = 1, keys and #KINDS or 0 do
      local key = keys[KINDS[i]]
      if key then touch('ZCARD', flow.keys(b.t).lanes .. key) end
    end
    if keys and keys.fairness then touch('ZCARD', b.keys.fair_heads .. keys.fairness) end
  end

  -- The same before a claim of the lane begins or ends, at which also its slot and its rate
  -- are written, and those who wait for its slot are looked at.
  function flow.touch_claim(b, lane)
    local keys, t = flow.of(lane), b.t
    if not keys then return end
    t.flow_touched = t.flow_touched or {}
    if t.flow_touched[lane] then return end
    t.flow_touched[lane] = true
    flow.touch(b, lane)
    if keys.concurrency then flow.touch_key(t, keys.concurrency) end
    if keys.rate then touch('ZCARD', flow.keys(t).rates) end
  end

  -- The same before those who wait for a key are rung.
  function flow.touch_key(t, key)
    local keys = flow.keys(t)
    touch('ZCARD', keys.slots .. key)
    touch('ZCARD', keys.lanes .. key)
  end

  -- Fairness

  function flow.weight(t, key)
    return flow.settings(t, key).weight or 1
  end

  -- A task of the lane was taken in its key's turn, and went to nobody after all.
  function flow.give_turn_back(b, lane)
    local keys = b.is_fair and flow.of(lane)
    local key = keys and keys.fairness or ''
    local tag = b.is_fair and (b.t.sets[b.keys.fair] or NOTHING)[key]
    if tag then zput(b.t, b.keys.fair, key, tag - 1 / flow.weight(b.t, key)) end
  end

  -- From the first task with a fairness key on, each key has heads of its own, and the tasks
  -- without are a key too, the empty one.
  local function become_fair(b)
    b.is_fair = true
    hput(b.t, b.keys.board, 'fair', '1')
    if call('ZUNIONSTORE', b.keys.fair_heads, 1, b.keys.heads) > 0 then
      call('ZADD', b.keys.fair, 'NX', b.virtual, '')
    end
  end

  -- Before the heads of the board's changed lanes are written.
  function flow.prepare(b)
    if b.is_fair then return end
    for lane in pairs(b.lanes) do
      local keys = flow.of(lane)
      if keys and keys.fairness then return become_fair(b) end
    end
  end

  -- A lane's head changed; false where it is empty now.
  function flow.index(b, lane, score)
    local keys, t = flow.of(lane) or NO_KEYS, b.t
    for i = 1, #KINDS do
      local key = keys[KINDS[i]]
      if key then zput(t, flow.keys(t).lanes .. key, b.name .. '|' .. lane, score) end
    end
    if b.is_fair then
      local own = keys.fairness or ''
      zput(t, b.keys.fair_heads .. own, lane, score)
      -- A key that was idle begins where the others are, or where it had come to itself.
      if score then call('ZADD', b.keys.fair, 'NX', b.virtual, own) end
    end
  end

  -- The virtual time moves on with what is served.
  function flow.pass(b, tag)
    if tag <= b.virtual then return end
    b.virtual = tag
    hput(b.t, b.keys.board, 'virtual', tag)
  end

  -- Takes idle keys off the front of the line, at most `limit`; a board where none is left
  -- is as one that never had any. Answers how many went.
  function flow.trim(b, limit)
    if not b.is_fair then return 0 end
    local rows, gone = call('ZRANGE', b.keys.fair, 0, limit - 1, 'WITHSCORES'), 0
    for i = 1, #rows, 2 do
      if call('ZCARD', b.keys.fair_heads .. rows[i]) > 0 then return gone end
      zput(b.t, b.keys.fair, rows[i], false)
      if tonumber(rows[i + 1]) < FLOW_ASIDE then flow.pass(b, tonumber(rows[i + 1])) end
      gone = gone + 1
    end
    if #rows < limit * 2 then
      b.is_fair, b.virtual = false, 0
      hput(b.t, b.keys.board, 'fair', false)
      hput(b.t, b.keys.board, 'virtual', false)
    end
    return gone
  end
end
