-- Giving tasks to agents that run without instances: which, to whom, and the claims of those
-- that are pushed.
--
-- A dispatch is a table: `b`, how many tasks may be pushed to each (`left`, else
-- `each_most`), how many are to be given out in all (`unmet`), and the tasks that are pushed, by agent
-- (`groups`, in `order`). How deliveries to an agent went stands in its hash, as
-- `undelivered`: failed in a row|rests until (ms, 0: does not)|1 while one is tried.
-- include claim, turned_down

local dispatching = {
  choosy = 16, -- tasks for which those that turned them down are left out, in one call
}

do
  -- Until when nothing is pushed to the agent, and 0 where its deliveries go well.
  local function rests_until(agent)
    return tonumber(match(agent.undelivered or '', '^%d+|(%d+)')) or 0
  end

  -- The tasks that will be pushed to the agent.
  local function group_of(d, agent)
    local group = d.groups[agent.id]
    if not group then
      group = { agent = agent, taken = nothing_taken(), counted = 0 }
      d.groups[agent.id], d.order[#d.order + 1] = group, group
    end
    return group
  end

  local function spend(d, agent)
    d.unmet, d.left[agent.id] = d.unmet - 1, (d.left[agent.id] or d.each_most) - 1
    if d.left[agent.id] <= 0 then chooser.bar(d.b.t, agent, true) end
  end

  -- What others reserved for an agent with an address: pushed, or given back where it rests.
  local function take_up(d, agent, rests)
    local b, t, prefix = d.b, d.b.t, d.b.name .. ':'
    local rows = call('ZRANGE', reserved_key(t.prefix, agent.id), 0, d.most - 1)
    for i = 1, #rows do
      local id = string.sub(rows[i], 1, #prefix) == prefix and string.sub(rows[i], #prefix + 1)
      local r = id and load_record(b, id)
      if r and r[STATUS] == 'a' and r[HOLDER] == agent.id then
        if rests and not has(r, 'R') then
          leave(b, id, r)
          unflag(r, 'H')
          r.is_lapsed = true
          make_ready(b, id, r)
          save(b, id)
        elseif not rests and not (has(r, 'R') and turned_down.is_waiting(b, id, r)) and d.unmet > 0 and d.left[agent.id] > 0 and not kind_paused(b, r[LANE])
          and not (t.gated and breakers.room_of(t, r[LANE]) < 1) and flow.admit(t, r[LANE], false) then
          if t.gated then breakers.choose(t, r[LANE], 1) end
          take(group_of(d, agent).taken, id, r[SCORE], false)
          spend(d, agent)
        end
      end
    end
  end

  -- How many tasks the agent may be given, besides what it has room for. It is barred where
  -- that is none; what is reserved for it is taken up.
  local function spare_of(d, agent)
    local t, left, spare = d.b.t, d.left, math.huge
    if not (agent.alone and agent.status) or not agent.is_open and agent.reserved == 0 then
      return 0 -- gone, or nothing to do here
    elseif agent.push and agent.status == 'active' then
      local until_ms = rests_until(agent)
      local may_have = until_ms > t.ms and 0 or until_ms > 0 and 1 or d.most
      if t.gated and breakers.may_gate(t, agent.id, '') then
        may_have = math.min(may_have, breakers.claims(t, agent.id))
      end
      left[agent.id] = math.max(0, math.min(left[agent.id] or d.each_most, may_have))
      if agent.reserved > 0 then take_up(d, agent, until_ms > t.ms) end
      if left[agent.id] == 0 then chooser.bar(t, agent, true) end
      spare = left[agent.id]
    elseif not agent.push then
      spare = d.reserve_most - agent.reserved
      if spare <= 0 then chooser.bar(t, agent, true) end
    end
    return spare
  end

  local function count_room(d, agent, spare)
    if agent.is_open then
      d.room = d.room + math.min(spare, agent.limit - agent.held - agent.reserved)
    end
  end

  -- Begins a dispatch of `most` tasks. To an agent that rests nothing is pushed, and one task
  -- to one that has rested. Takes up what is reserved, and counts the room, as far as it is
  -- wanted: of most agents no more is to be known than that they have some.
  function dispatching.begin(b, agents, left, most, each_most, reserve_most)
    local d = { b = b, left = left, most = most, unmet = most, room = 0,
      each_most = math.min(each_most, most), reserve_most = reserve_most, groups = {}, order = {},
      choosy = dispatching.choosy }
    local special_ones, open = chooser.special_ones(b.t)
    if b.t.gated or each_most <= 0 then
      for i = 1, #agents do count_room(d, agents[i], spare_of(d, agents[i])) end
      return d
    end
    local is_counted, of = {}, b.t.memory.of
    for id in pairs(left) do
      if of[id] and of[id].alone then special_ones[#special_ones + 1] = of[id] end
    end
    for i = 1, #special_ones do
      local agent = special_ones[i]
      if not is_counted[agent] then count_room(d, agent, spare_of(d, agent)) end
      is_counted[agent] = true
    end
    for agent in pairs(open) do
      if d.room >= most then break end
      if agent.alone and not is_counted[agent] then
        count_room(d, agent, agent.push and d.each_most or reserve_most)
      end
    end
    return d
  end

  -- The tasks that are next, of the lanes that one of the agents can take from now.
  function dispatching.next(d, waiters)
    local b, taken = d.b, nothing_taken()
    local finder = { takes = function(_, lane) return chooser.is_served(b, lane, waiters) end }
    local want = math.min(d.unmet, d.room)
    if b.is_limited then want = math.min(want, room_of(b) - b.reserved) end
    if want > 0 and b.is_fair then
      take_turns(b, finder, want, want, taken)
    elseif want > 0 then
      take_lanes(b, new_walk((fitting_heads(b, finder, want, b.keys.heads))), want, want, taken)
    end
    -- What it compared is remembered, and the next call goes on. Where it was not remembered
    -- before, that one may have to begin anew, and so is not made at once.
    d.goes_on = (b.t.is_cut_short or b.t.is_unread) and not b.t.has_new_memory
    return taken
  end

  -- An agent for the task, rather none of those that turned it down. That is looked at for some
  -- tasks only, since who has room is then counted anew.
  local function agent_for(d, name, id, r, lane, waiters)
    local b, memory, barred = d.b, d.b.t.memory, {}
    local task, shunned = chooser.sketch(b, id, r), d.choosy > 0 and turned_down.by(b, id, r) or ''
    for its_name in gmatch(shunned, '[^,]+') do
      local agent = memory.of[its_name]
      if agent and not agent.is_barred then
        chooser.bar(b.t, agent, true)
        barred[#barred + 1] = agent
      end
    end
    if #barred == 0 then return chooser.choose(b, name, task, lane, waiters) end
    d.choosy = d.choosy - 1
    local chosen = chooser.choose(b, name, task, lane, waiters)
    for i = 1, #barred do chooser.bar(b.t, barred[i], false) end
    return chosen or chooser.choose(b, name, task, lane, waiters)
  end

  -- Chooses an agent for each; answers how many were reserved for agents without an address.
  function dispatching.choose(d, name, taken, waiters, take_up_ms)
    local b, t, full, kept, reserved = d.b, d.b.t, {}, {}, 0
    load_records(b, taken.ids)
    for i = 1, #taken.ids do
      local id, lane = taken.ids[i], taken.lanes[i]
      local r = b.records[id]
      local agent = r and not full[lane] and agent_for(d, name, id, r, lane, waiters)
      if not agent then
        full[lane] = true
        kept[#kept + 1] = lane
      elseif agent.push then
        local group = group_of(d, agent)
        take(group.taken, id, taken.scores[i], lane)
        group.counted = group.counted + 1
        t.agents[agent.id].reserved = agent.reserved + 1 -- until they are granted
        spend(d, agent)
      else
        chooser.take_aside(b, id, r, agent.id, t.ms + take_up_ms)
        reserved = reserved + 1
        if agent.reserved >= d.reserve_most then chooser.bar(t, agent, true) end
      end
    end
    for i = 1, #kept do flow.give_turn_back(b, kept[i]) end
    d.unmet = d.unmet - reserved
    if d.unmet > 0 then chooser.turn(t) end
    -- It compared as many tasks and agents as one call may, and gave some out.
    if (t.pairs_left or 1) <= 0 and (reserved > 0 or #d.order > 0) then d.goes_on = true end
    return reserved
  end

  -- Claims what is pushed to one agent; the push, as it is answered, and how many bytes it has.
  local function grant_group(d, group, push_ms)
    local b, t, agent, its = d.b, d.b.t, group.agent, group.taken
    local push, timed, bytes = { agent.id, agent.push, agent.undelivered and 1 or 0 }, {}, 0
    for i = 1, #its.ids do
      local id = its.ids[i]
      local r = b.records[id]
      d.given[id], bytes = true, bytes + #its.bodies[i] + #its.payloads[i]
      if its.lanes[i] then
        b.timed, b.waited = b.timed + 1, b.waited + t.ms - tonumber(r[SINCE] ~= '' and r[SINCE] or r[CREATED])
        fact(t, 'task:assigned', b.name, id, 'assigned', agent.id, r[FENCE])
      end
      if r[LEASE] ~= '' or r[TIMEOUT] ~= '' then timed[#timed + 1] = id end
    end
    grant(b, agent, '', its, 0, push_ms, push)
    -- A delivery takes its time, whatever the lease of its own that a task has.
    for i = 1, #timed do zput(t, b.keys.leases, timed[i], t.ms + push_ms) end
    if rests_until(agent) > 0 then
      local failed = match(agent.undelivered, '^%d+')
      hput(t, agent_key(t.prefix, agent.id), 'undelivered', failed .. '|' .. int(t.ms + push_ms) .. '|1')
    end
    return push, bytes
  end

  -- Of what was not given there is no decision.
  local function forget_decisions(d)
    local made = {}
    for i = 1, #(d.b.t.decisions or {}) do
      local decision = d.b.t.decisions[i]
      if d.given[decision[1]] or not d.groups[decision[3]] then made[#made + 1] = decision end
    end
    d.b.t.decisions = made
  end

  -- Claims what is pushed, until the answer is large enough. Answers the pushes, and whether
  -- some are left for another call.
  function dispatching.grant(d, push_ms)
    local t, pushes, bytes, is_cut = d.b.t, {}, 0, false
    d.given = {}
    for g = 1, #d.order do
      local group = d.order[g]
      local before = #group.taken.ids
      t.agents[group.agent.id].reserved = group.agent.reserved - group.counted
      if bytes < REPLY_BYTES then
        load_taken(d.b, group.taken)
        local push, size = grant_group(d, group, push_ms)
        pushes[#pushes + 1], bytes = push, bytes + size
        is_cut = is_cut or #group.taken.ids < before
      else
        is_cut = true
      end
    end
    if is_cut then forget_decisions(d) end
    return pushes, is_cut
  end

  -- Has the board ring whoever dispatches for a while; not this one, which has just looked.
  function dispatching.serve(b, strategy, serve_ms)
    local key, until_ms = b.keys.board, b.t.ms + serve_ms
    if b.dispatched < until_ms - serve_ms / 2 then
      hput(b.t, key, 'dispatched', int(until_ms))
      hput(b.t, key, 'dispatches_by', strategy)
    end
    b.dispatched, b.has_news = until_ms, false
  end
end
