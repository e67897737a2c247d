-- Choosing an agent for a task: what is known of the agents, who may be chosen, and the
-- record of each decision.
-- include agent, breaker, strategy

-- How an agent's runs went is kept in `agents:runs:{agent}`: under `*` those of all kinds,
-- `done|failed|recent|response`, and under each kind `runs|mean|at`: recent are the last ten
-- outcomes, newest last, 1 for done; times are ms. It is advice: where the key is somebody
-- else's, choices are made without it, and nothing fails.
local chooser = {
  looked_at = 1000, -- registered agents that one choice looks at, oldest first
  dispatched_to = 20000, -- active agents without instances that dispatches look at, oldest first
  turn_ms = 10000, -- for how long at least, where there are more; then at those behind them
  readings_most = 5000, -- of these that one call reads; the next goes on
  pairs_most = 200000, -- tasks times agents compared in one call; the other tasks go to lanes
  decisions_kept = 1000,
  shown = 32, -- candidates named in a decision's record,
  shown_of_dispatch = 8, -- of which there are many
  kinds_most = 100, -- that an agent's runs are kept of; the longest unused one gives way
  runs_kept_ms = 604800000, -- after the last run
  pause_us = 50000, -- an agent's runs are counted, but written not more often than this
  memory = {}, remembered = 0,
  namespaces_most = 256, -- whose agents are remembered
  weight_most = 40000, -- agents remembered in all: of more, those of namespaces that chose the longest ago are not
  lanes_most = 100, -- of a namespace, of which it is remembered who fits
  compared_most = 4000, -- profiles with lanes, in one dispatch; the next goes on
  verdicts_most = 500000, -- of profiles on lanes, of a namespace
  profiles_most = 10000, -- of a namespace; then those of agents that are gone are forgotten
  grouped_most = 100000, -- agents in groups of those that fit the same lanes
  known_kinds_most = 20, -- of an agent, of which its runs are remembered
  remembered_ms = 3600000, -- then all is read again
  changes_most = 2000, -- of agents, noted for scores that are kept; then all are made again
}

do
  local TOTALS = '^(%d+)|(%d+)|([01]*)|([%d.]*)$'
  local OF_KIND = '^(%d+)|([%d.]+)|(%d+)$'

  local function totals_of(raw)
    local done, failed, recent, response = match(raw or '', TOTALS)
    return tonumber(done) or 0, tonumber(failed) or 0, recent or '', tonumber(response)
  end

  -- Notes that what an agent is scored by may have changed.
  local function changed(memory, agent)
    if #memory.changes >= chooser.changes_most then
      memory.changes, memory.epoch = {}, memory.epoch + 1
    end
    memory.changes[#memory.changes + 1] = agent
  end

  local function drop_oldest(key)
    local fields, oldest, since = redis.pcall('HGETALL', key), nil, nil
    for i = 1, #fields, 2 do
      local at = tonumber((select(3, match(fields[i + 1], OF_KIND))))
      if at and (not since or at < since) then oldest, since = fields[i], at end
    end
    if oldest then redis.pcall('HDEL', key, oldest) end
  end

  -- Writes what is known of an agent's runs, with `done` more of them, the newest of which
  -- took `ms`, or with one that failed.
  local function write_runs(t, agent, kind, done, ms, failed)
    local key, known = choice_keys(t.prefix, agent).runs, t.memory and t.memory.of[agent]
    if known then
      known.kinds = nil
      changed(t.memory, known)
    end
    local raw = redis.pcall('HMGET', key, '*', kind)
    if raw.err then return end
    local all, failures, recent, response = totals_of(raw[1])
    local ended = string.rep('1', math.min(done, strategies.recent)) .. string.rep('0', failed)
    recent = string.sub(recent .. ended, -strategies.recent)
    local of_kind = raw[2]
    if ms then
      response = strategies.average(response or ms, all, ms)
      local runs, mean = match(of_kind or '', OF_KIND)
      mean = strategies.average(tonumber(mean) or ms, tonumber(runs) or 0, ms)
      of_kind = int((tonumber(runs) or 0) + done) .. format('|%.1f|', mean) .. t.ms
      if not raw[2] and redis.pcall('HLEN', key) > chooser.kinds_most then drop_oldest(key) end
    end
    local totals = int(all + done) .. '|' .. int(failures + failed) .. '|' .. recent .. '|'
      .. (response and format('%.1f', response) or '')
    redis.pcall('HSET', key, '*', totals, of_kind and kind or '*', of_kind or totals)
    redis.pcall('PEXPIRE', key, chooser.runs_kept_ms)
  end

  -- Tasks of an agent were done: `count` of them, one of which is of this kind and took `ms`.
  -- Of an agent that is quick, most are only counted, in the engine's memory of functions,
  -- which a restart forgets: a few counts of fifty milliseconds.
  function chooser.done(t, agent, kind, count, ms)
    local name = t.prefix .. agent
    local memory = chooser.memory[name]
    if not memory then
      if chooser.remembered >= 10000 then chooser.memory, chooser.remembered = {}, 0 end
      memory = { at = 0, count = 0 }
      chooser.memory[name], chooser.remembered = memory, chooser.remembered + 1
    end
    if t.is_real_time and t.now - memory.at < chooser.pause_us and t.now >= memory.at then
      memory.count = memory.count + count
      return
    end
    write_runs(t, agent, kind, memory.count + count, ms, 0)
    memory.at, memory.count = t.now, 0
  end

  function chooser.failed(t, agent, kind) write_runs(t, agent, kind, 0, nil, 1) end

  function chooser.forget(t, agent)
    local known = t.memory and t.memory.of[agent]
    if known then
      known.kinds = nil
      changed(t.memory, known)
    end
    call('DEL', choice_keys(t.prefix, agent).runs)
  end

  -- What is known of the agent's runs, in all and of this kind; read once a call, or kept.
  local function know(t, agent, kind)
    if not agent.kinds or agent.kinds_kept >= chooser.known_kinds_most then
      agent.kinds, agent.kinds_kept = {}, 0
    end
    local of_kind = agent.kinds[kind]
    if not of_kind then
      local raw = redis.pcall('HMGET', choice_keys(t.prefix, agent.id).runs, '*', kind)
      local is_foreign = raw.err
      if is_foreign then raw = {} end
      local recent
      agent.done, agent.failed, recent, agent.response_ms = totals_of(raw[1])
      local _, count = string.gsub(recent, '1', '1')
      agent.recent_done, agent.recent_failed = count, #recent - count
      local runs, mean, at = match(raw[2] or '', OF_KIND)
      of_kind = { runs = tonumber(runs) or 0, mean = tonumber(mean), at = tonumber(at) or 0 }
      agent.kinds[kind], agent.kinds_kept = of_kind, agent.kinds_kept + 1
      if is_foreign then agent.kinds = nil end
    end
    agent.kind, agent.runs, agent.avg_ms, agent.last_at = kind, of_kind.runs, of_kind.mean, of_kind.at
  end

  -- The same for these agents; and, where it is asked for, what follows from all of them:
  -- the usual time, and who was the last to do this kind.
  local function know_all(t, agents, kind, is_compared)
    local sum, count, last = 0, 0, 0
    for i = 1, #agents do
      local agent = agents[i]
      if not agent.kinds or agent.kind ~= kind then know(t, agent, kind) end
      if agent.avg_ms then sum, count = sum + agent.avg_ms, count + 1 end
      if agent.last_at > last then last = agent.last_at end
    end
    if not is_compared then return end
    local mean = count > 0 and sum / count or nil
    for i = 1, #agents do
      local agent = agents[i]
      agent.mean_ms, agent.was_last = mean, last > 0 and agent.last_at == last
    end
  end

  -- What the agent declared and reported. One that runs without instances is `alone`: it is
  -- given work, by `push` where it has an address for that, rather than asking for it. Of
  -- such a one no reservation lapses by its own fault.
  local function take_load(agent, load, weight, priority, alone, push, undelivered)
    agent.alone, agent.push = alone == '1', alone == '1' and push ~= '' and push or nil
    agent.undelivered = agent.push and undelivered or nil
    if agent.push then agent.lapsed = 0 end
    agent.cpu = load and tonumber(match(load, '"cpu":([^,}]+)')) or 0
    agent.memory = load and tonumber(match(load, '"memory":([^,}]+)')) or 0
    agent.weight, agent.priority = tonumber(weight) or 1, tonumber(priority) or 0
  end

  local function read_load(t, agent)
    local h = call('HMGET', agent_key(t.prefix, agent.id), 'load_metrics', 'weight', 'priority',
      'alone', 'push', 'undelivered')
    take_load(agent, unpack_values(h))
  end

  -- Somebody else's value under an agent's name must not stop what is half written.
  local function loaded(t, id)
    if t.agents and t.agents[id] ~= nil then return t.agents[id] end
    local is_read, agent = pcall(load_agent, t, id)
    return is_read and agent
  end

  -- Notes whether the agent is active and has room; lists of those that are hold until one
  -- more or less is.
  local function note_room(memory, agent)
    changed(memory, agent)
    local is_open = agent.status == 'active' and agent.held + agent.reserved < agent.limit
      and agent.lapsed == 0 and not agent.is_barred
    if is_open ~= agent.is_open then agent.is_open, memory.version = is_open, memory.version + 1 end
    memory.open[agent] = is_open or nil
    memory.special[agent] = (agent.undelivered or (agent.reserved or 0) > 0) and true or nil
  end

  -- Reads an agent that is remembered. One that is not there, or is somebody else's value,
  -- has no status, and is looked for again by each call.
  local function read(t, agent)
    local is_read, h = pcall(call, 'HMGET', agent_key(t.prefix, agent.id), 'profile', 'status', 'claim_limit',
      'health_score', 'ready_limit', 'gone', 'lapsed', 'load_metrics', 'weight', 'priority', 'alone',
      'push', 'undelivered')
    if is_read and h[1] and pcall(fill_agent, t, agent, h) then
      local alone = agent.alone
      take_load(agent, unpack_values(h, 8))
      if agent.alone ~= alone then forget_fits(t.memory, true) end
      note_room(t.memory, agent)
      return true
    end
    agent.status = nil
    note_room(t.memory, agent)
    return false
  end

  -- Remembers the agents of these names; of those that are new all is to be read.
  local function enlist(t, memory, ids, before, loaded_ones)
    local found = {}
    for i = 1, #ids do
      local id = ids[i]
      local agent = memory.of[id] or before[id]
      if not agent then
        agent, memory.stale[id] = loaded_ones[id] or { id = id }, true
      end
      found[i] = agent
      if not memory.of[id] then
        agent.waiting, agent.waited_ms, memory.of[id] = false, 0, agent
        memory.keyed[agent_key(t.prefix, id)] = id
        memory.keyed[held_key(t.prefix, id)] = id
        memory.keyed[reserved_key(t.prefix, id)] = id
      end
    end
    return found
  end

  -- Takes over who is registered, oldest first; by a dispatch, also who of them is active and
  -- runs without instances.
  local function list(t, memory, loaded_ones)
    local before, alone_key, alone = memory.of, agents_alone_key(t.prefix), {}
    memory.of, memory.keyed = {}, { [agents_known_key(t.prefix)] = '', [alone_key] = '*' }
    memory.stale[''] = nil
    forget_fits(memory, true)
    local known = call('ZRANGE', agents_known_key(t.prefix), 0, chooser.looked_at - 1)
    memory.agents = enlist(t, memory, known, before, loaded_ones)
    for i = 1, #memory.agents do memory.agents[i].is_known = true end
    if t.is_dispatch then
      memory.stale['*'], memory.count = nil, call('ZCARD', alone_key)
      if memory.first >= memory.count then memory.first = 0 end
      alone = call('ZRANGE', alone_key, memory.first, memory.first + chooser.dispatched_to - 1)
    else
      for i = 1, #memory.alone do alone[i] = memory.alone[i].id end
    end
    memory.alone = enlist(t, memory, alone, before, loaded_ones)
    for i = 1, #memory.alone do memory.alone[i].listed = i end
    memory.open, memory.special, memory.barred = {}, {}, {}
    for _, agent in pairs(memory.of) do
      memory.open[agent] = agent.is_open or nil
      memory.special[agent] = (agent.undelivered or (agent.reserved or 0) > 0) and true or nil
      memory.barred[agent] = agent.is_barred
    end
  end

  -- What a memory holds, in agents: what is known of lanes is about a tenth of one each.
  local function weight_of(memory)
    return #memory.agents + #memory.alone + (memory.verdicts.kept + memory.grouped) / 10
  end

  -- Forgets the agents of namespaces that chose the longest ago, where there are too many.
  local function make_room(own)
    local sum = 0
    for _, memory in pairs(remembered.of) do sum = sum + weight_of(memory) end
    -- bounded by the namespaces that are remembered
    while remembered.count > chooser.namespaces_most or sum > chooser.weight_most do
      local oldest
      for prefix, memory in pairs(remembered.of) do
        if memory ~= own and (not oldest or memory.used < remembered.of[oldest].used) then oldest = prefix end
      end
      if not oldest then break end
      sum = sum - weight_of(remembered.of[oldest])
      remembered.of[oldest], remembered.count = nil, remembered.count - 1
    end
  end

  local function new_memory(t)
    t.memory = { of = {}, agents = {}, keyed = {}, stale = { [''] = true, ['*'] = true }, since = t.ms,
      seq = t.seq, fence = t.fence, version = 0, moved = {}, noted = {},
      changes = {}, epoch = 0, alone = {}, profiles = { at = {} }, verdicts = { kept = 0 },
      members = {}, found = {}, groups = {}, grouped = 0,
      -- Those with room, those to be looked at one by one, those left out; how many there are
      -- for dispatches, and from which one on these look at them.
      open = {}, special = {}, barred = {}, count = 0, first = 0, turned_ms = t.ms, used = 0 }
    t.has_new_memory = true
    remembered.of[t.prefix], remembered.count = t.memory, remembered.count + 1
    make_room(t.memory)
    return t.memory
  end

  -- Reads these agents, which are for dispatches only: no more than one call may, oldest first.
  -- The others are not there before a later call has read them.
  local function read_alone(t, memory, agents)
    local most = chooser.readings_most
    if #agents > most then
      table.sort(agents, function(x, y) return x.listed < y.listed end)
    end
    for i = 1, math.min(#agents, most) do
      if read(t, agents[i]) then memory.stale[agents[i].id], t.is_unread = nil, #agents > most end
    end
    for i = most + 1, #agents do
      agents[i].status = nil
      note_room(memory, agents[i])
    end
  end

  -- The registered agents, as they are: what changed since the last choice is read, and from
  -- here on whoever this call looks up by name counts as changed by it.
  local function recollect(t)
    if t.is_recollected then return t.memory end
    t.is_recollected = true
    local memory, loaded_ones = t.memory or new_memory(t), t.agents or {}
    remembered.uses = remembered.uses + 1
    memory.used = remembered.uses
    for key in pairs(t.sets) do remembered.touch(t, key) end
    if t.ms - memory.since > chooser.remembered_ms or t.ms < memory.since then
      memory.since, memory.stale[''], memory.stale['*'] = t.ms, true, true
      for id, agent in pairs(memory.of) do agent.kinds, memory.stale[id] = nil, true end
    end
    if memory.stale[''] or t.is_dispatch and memory.stale['*'] then
      list(t, memory, loaded_ones)
      make_room(memory)
    end
    local stale, others = memory.stale, {}
    for id in pairs(stale) do
      local agent = memory.of[id]
      if agent and not agent.is_known and loaded_ones[id] ~= agent then
        others[#others + 1] = agent
      elseif id ~= '*' and (not agent or loaded_ones[id] ~= agent and read(t, agent)) then
        stale[id] = nil
      end
    end
    if #others > 0 then read_alone(t, memory, others) end
    for id, agent in pairs(loaded_ones) do
      if agent and memory.of[id] == agent then
        loaded_ones[id] = nil -- found there, by its name
        local alone = agent.alone
        if not agent.weight then read_load(t, agent) end
        if agent.alone ~= alone then forget_fits(memory, true) end
        note_room(memory, agent)
      end
    end
    for key in pairs(t.sets) do remembered.touch(t, key) end
    t.agents = setmetatable(loaded_ones, { __index = function(_, id)
      local agent = memory.of[id]
      if not (agent and agent.status) then return nil end
      memory.stale[id], memory.moved[#memory.moved + 1] = true, agent
      return agent
    end })
    return memory
  end

  -- Whether an agent that was chosen is as it was remembered. Where it is not, somebody
  -- wrote past the functions, and all that this call has not touched is read again. One that
  -- it has touched may have been filled by it.
  local function is_as_remembered(t, agent)
    local memory = t.memory
    if memory.stale[agent.id] then
      note_room(memory, agent)
      return agent.status == 'active' and agent.held + agent.reserved < agent.limit
    end
    local profile, status, limit = agent.profile, agent.status, agent.limit
    local held, reserved, lapsed = agent.held, agent.reserved, agent.lapsed
    if not read(t, agent) then memory.stale[agent.id] = true end
    if agent.profile == profile and agent.status == status and agent.limit == limit
      and agent.held == held and agent.reserved == reserved and agent.lapsed == lapsed then return true end
    local all = t.is_dispatch and memory.alone or memory.agents
    for i = 1, #all do
      local other = all[i]
      if not memory.stale[other.id] and not read(t, other) then memory.stale[other.id] = true end
    end
    return false
  end

  local function new_group() return { open = {}, at = {}, trees = {} } end

  local NOBODY = new_group()

  -- Sorts the agents of dispatches by profile: who fits which lane is known of profiles, and
  -- outlives the agents.
  local function sort_by_profile(memory)
    local profiles, members = memory.profiles, {}
    if #profiles >= chooser.profiles_most then
      profiles = { at = {} }
      memory.profiles, memory.verdicts = profiles, { kept = 0 }
    end
    for i = 1, #memory.alone do
      local agent = memory.alone[i]
      if agent.profile and agent.alone then
        local n = profiles.at[agent.profile]
        if not n then
          n = #profiles + 1
          profiles[n], profiles.at[agent.profile] = agent.profile, n
        end
        members[n] = members[n] or {}
        members[n][#members[n] + 1], agent.rank = agent, i
      end
    end
    memory.members, memory.found, memory.groups, memory.grouped = members, {}, {}, 0
    memory.is_unsorted = false
  end

  -- Which profiles fit the lane; nil where a dispatch compared enough, and the next goes on.
  local function verdict_of(t, memory, lane)
    local profiles, verdict = memory.profiles, memory.verdicts[lane]
    if not verdict then
      if memory.verdicts.kept >= chooser.verdicts_most then
        memory.verdicts, t.has_new_memory = { kept = 0 }, true
      end
      verdict = { seen = 0 }
      memory.verdicts[lane], memory.verdicts.kept = verdict, memory.verdicts.kept + 1
    end
    for n = verdict.seen + 1, #profiles do
      t.compared = (t.compared or 0) + 1
      if t.compared > chooser.compared_most then return nil end
      if #missing_for(profiles[n], lane) == 0 then
        verdict[#verdict + 1], memory.verdicts.kept = n, memory.verdicts.kept + 1
      end
      verdict.seen = n
    end
    return verdict
  end

  -- Those of a dispatch that fit the lane, whatever their health; one list for all lanes that
  -- the same profiles fit.
  local function group_of(t, memory, lane)
    if memory.is_unsorted then sort_by_profile(memory) end
    if memory.found[lane] then return memory.found[lane] end
    local verdict, parts = verdict_of(t, memory, lane), {}
    if not verdict then
      t.is_cut_short = true
      return NOBODY
    end
    for i = 1, #verdict do
      if memory.members[verdict[i]] then parts[#parts + 1] = verdict[i] end
    end
    local name = concat(parts, ',')
    local group = #parts == 0 and NOBODY or memory.groups[name]
    if not group then
      if memory.grouped >= chooser.grouped_most then memory.found, memory.groups, memory.grouped = {}, {}, 0 end
      group = new_group()
      for i = 1, #parts do
        local members = memory.members[parts[i]]
        for k = 1, #members do group[#group + 1] = members[k] end
      end
      if #parts > 1 then table.sort(group, function(x, y) return x.rank < y.rank end) end
      for i = 1, #group do group.at[group[i]] = i end
      memory.groups[name], memory.grouped = group, memory.grouped + #group
    end
    memory.found[lane] = group
    return group
  end

  -- Those of a group that are so healthy; one list for all lanes of the group that ask for it.
  local function healthy_of(memory, group, least)
    local kept = memory.alone_healthy
    if kept.count + #group > chooser.grouped_most then
      kept = { count = 0 }
      memory.alone_healthy = kept
    end
    kept[group] = kept[group] or {}
    local found = kept[group][least]
    if not found then
      found = new_group()
      for i = 1, #group do
        if group[i].health >= least then
          found[#found + 1] = group[i]
          found.at[group[i]] = #found
        end
      end
      kept[group][least], kept.count = found, kept.count + #group
    end
    return found
  end

  -- The agents that a task of this lane may go to, whether or not they are active and have
  -- room; and, in `open`, those that were so at `version`.
  local function fitting(b, lane)
    local memory = recollect(b.t)
    local asks_health = match(lane, '^[^;]*;[^;]*;[^;]*;[^;]*;[^;]*;([^;]+)')
    local all, kind = memory.agents, asks_health and 'healthy_lanes' or 'lanes'
    if b.t.is_dispatch then
      all = group_of(b.t, memory, lane)
      return asks_health and #all > 0 and healthy_of(memory, all, tonumber(asks_health)) or all
    end
    local lanes = memory[kind]
    if lanes[lane] then return lanes[lane] end
    if lanes.kept >= chooser.lanes_most then
      lanes = { kept = 0 }
      memory[kind] = lanes
    end
    local found = new_group()
    for i = 1, #all do
      if all[i].profile and serves(all[i], lane) then
        found[#found + 1] = all[i]
        found.at[all[i]] = #found
      end
    end
    lanes[lane], lanes.kept = found, lanes.kept + 1
    return found
  end

  -- The first waiter of each agent that waits on the board.
  local function note_waiting(b, waiters)
    if b.waiting then return end
    b.waiting = {}
    for i = 1, #waiters do
      local waiter = waiters[i]
      if not b.waiting[waiter.id] then b.waiting[waiter.id] = waiter end
    end
  end

  -- Notes of the agents that wait on the board for how long, and of those that did before
  -- that they do not. Whether one of them let a reservation lapse.
  local function note_waits(b, memory, waiters)
    note_waiting(b, waiters)
    local noted, longest, has_lapsed = memory.noted, 0, false
    for i = #noted, 1, -1 do
      noted[i].waiting, noted[i].waited_ms = false, 0
      changed(memory, noted[i])
      noted[i] = nil
    end
    for i = 1, #waiters do longest = math.max(longest, waiters[i].until_ms) end
    for id, waiter in pairs(b.waiting) do
      local agent = memory.of[id]
      if agent then
        agent.waiting, agent.waited_ms = waiter.wants > 0, longest - waiter.until_ms
        noted[#noted + 1] = agent
        changed(memory, agent)
        has_lapsed = has_lapsed or agent.lapsed ~= 0
      end
    end
    return has_lapsed
  end

  -- Those of the agents that are active and have room, where breakers gate claims or one
  -- waits that let a reservation lapse: it is asked again once it claims, or waits here.
  local function open_ones(b, lane, agents)
    local t, found = b.t, {}
    for i = 1, #agents do
      local agent = agents[i]
      if agent.status == 'active' and agent.held + agent.reserved < agent.limit
        and (agent.lapsed == 0 or b.waiting[agent.id]) and not agent.is_barred
        -- A push is a claim, and may be a probe; who may have how many is known before.
        and not (t.gated and not (t.is_dispatch and agent.push) and breakers.may_gate(t, agent.id, lane)
          and not breakers.offers(t, agent.id, lane)) then
        found[#found + 1] = agent
      end
    end
    return found
  end

  -- Takes note of what this call did to agents that it looked up by name.
  local function note_moved(memory)
    for i = #memory.moved, 1, -1 do
      note_room(memory, memory.moved[i])
      memory.moved[i] = nil
    end
  end

  -- The candidates for a task of this lane: active agents that fit and have room. `reads`
  -- says what is to be known of them. The list is good until the next choice. Then all who
  -- fit, where the list is just those of them that are active and have room.
  function chooser.candidates(b, lane, waiters, reads)
    local t, agents = b.t, fitting(b, lane)
    local memory, found = t.memory, agents.open
    note_moved(memory)
    local is_special = note_waits(b, memory, waiters) or t.gated
    if is_special then
      found = open_ones(b, lane, agents)
    elseif agents.version ~= memory.version then
      local count, before = 0, #found
      for i = 1, #agents do
        if agents[i].is_open then
          count = count + 1
          found[count] = agents[i]
        end
      end
      for i = before, count + 1, -1 do found[i] = nil end
      agents.version = memory.version
    end
    if reads.runs then know_all(t, found, kind_of(lane), reads.all) end
    return found, not is_special and agents
  end

  -- The best of the agents with room by a score that is each agent's own, and its score: the
  -- winner of a knock-out among all who fit, of which only the matches of those that changed
  -- since the last choice are played again. The scores are kept beside it.
  local function winner(t, agents, name, kind)
    local memory, score_of, tree = t.memory, strategies.scores[name], agents.trees[name]
    local is_before, knows = strategies.is_before, strategies.reads[name].runs
    if not tree or tree.epoch ~= memory.epoch then
      tree = { size = 1, seen = 0, scores = {} }
      -- bounded by the logarithm of the number of agents
      while tree.size < #agents do tree.size = 2 * tree.size end
      agents.trees[name] = tree
    end
    local scores, size = tree.scores, tree.size

    local function enter(i)
      local agent = agents[i]
      if knows and not agent.kinds then know(t, agent, kind) end
      scores[i] = agent.is_open and score_of(agent)
      tree[size + i - 1] = scores[i] and i or false
    end

    local function play(node)
      local x, y = tree[2 * node], tree[2 * node + 1]
      tree[node] = x or y or false
      if x and y and (scores[y] > scores[x]
        or scores[y] == scores[x] and is_before(agents[y], agents[x])) then tree[node] = y end
    end

    if tree.epoch then
      for k = tree.seen + 1, #memory.changes do
        local i = agents.at[memory.changes[k]]
        if i then
          enter(i)
          local node = floor((size + i - 1) / 2)
          while node >= 1 do -- bounded by the tree's height
            play(node)
            node = floor(node / 2)
          end
        end
      end
    else
      for i = 1, #agents do enter(i) end
      for node = size - 1, 1, -1 do play(node) end
    end
    tree.epoch, tree.seen = memory.epoch, #memory.changes
    return tree[1] and agents[tree[1]], scores
  end

  local function shown_as(agent)
    return agent.score and agent.id .. '=' .. format('%.4g', agent.score) or nil
  end

  -- The candidates with their scores, the chosen one first, as `id=score,…`.
  local function scores_of(candidates, chosen, most)
    local parts = { shown_as(chosen) }
    for i = 1, #candidates do
      if #parts >= most then break end
      if candidates[i] ~= chosen then parts[#parts + 1] = shown_as(candidates[i]) end
    end
    return concat(parts, ',')
  end

  -- Keeps a decision, to be written as the call ends.
  function chooser.record(b, id, agent, name, reason, considered, scores)
    local t = b.t
    t.decisions = t.decisions or {}
    t.decisions[#t.decisions + 1] = { id, b.name, agent, name, reason, considered, scores }
  end

  function chooser.write(t)
    local decisions, key = t.decisions, choice_keys(t.prefix, '').decisions
    t.decisions = nil
    for i = math.max(1, #decisions - chooser.decisions_kept + 1), #decisions do
      local d = decisions[i]
      redis.pcall('XADD', key, 'MAXLEN', '~', chooser.decisions_kept, '*', 'task', d[1],
        'board', d[2], 'agent', d[3], 'strategy', d[4], 'reason', d[5], 'considered', d[6],
        'candidates', d[7], 'at', t.ms, 'by', t.by or '')
    end
  end

  -- Whose turn it was: kept with the board, written with its other settings.
  local function turn_of(b)
    if not b.turn then
      local turn, last = match(call('HGET', b.keys.board, 'turn') or '', '^(%d+)|(.*)$')
      b.turn = { turn = tonumber(turn) or 0, last = last ~= '' and last or nil }
    end
    return b.turn
  end

  -- By a strategy, an agent of those that fit and have room, why, and how they are called.
  local function pick(b, name, task, lane, waiters, state)
    local is_scored = strategies.scores[name]
    local candidates, agents = chooser.candidates(b, lane, waiters, is_scored and {} or strategies.reads[name])
    if not (is_scored and agents) then
      if is_scored and strategies.reads[name].runs then know_all(b.t, candidates, kind_of(lane)) end
      local chosen, reason = strategies.choose(name, task, candidates, state)
      return chosen and candidates[chosen], reason, candidates
    end
    local agent, scores = winner(b.t, agents, name, kind_of(lane))
    if not agent then return nil, 'no agent that fits has room', candidates end
    for i = 1, math.min(#candidates, chooser.shown) do
      candidates[i].score = scores[agents.at[candidates[i]]]
    end
    agent.score = scores[agents.at[agent]]
    return agent, strategies.reasons[name](agent), candidates
  end

  -- Chooses an agent for a task among all that fit and have room; nil, and why, where there
  -- is none. Then the scores, and how many had room. The task is as the strategies want it.
  function chooser.choose(b, name, task, lane, waiters)
    local t, reads = b.t, strategies.reads[name]
    t.pairs_left = t.pairs_left or chooser.pairs_most
    if t.pairs_left <= 0 then return nil, 'too many agents and tasks to compare in one call', '', 0 end
    t.pairs_left = t.pairs_left - #fitting(b, lane)
    local state = reads.turn and turn_of(b) or {}
    local turn, last = state.turn, state.last
    local agent, reason, candidates = pick(b, name, task, lane, waiters, state)
    if agent and not is_as_remembered(t, agent) then
      state.turn, state.last = turn, last
      agent, reason, candidates = pick(b, name, task, lane, waiters, state)
    end
    if not agent then return nil, reason, '', #candidates end
    if t.is_dispatch then -- whoever was given work the longest ago comes first of equal ones
      t.memory.turn = (t.memory.turn or 0) + 1
      agent.turn = t.memory.turn
    end
    if reads.turn then
      hput(t, b.keys.board, 'turn', int(state.turn or 0) .. '|' .. (state.last or ''))
    end
    local scores = scores_of(candidates, agent, t.is_dispatch and chooser.shown_of_dispatch or chooser.shown)
    chooser.record(b, task.id, agent.id, name, reason, #candidates, scores)
    return agent, reason, scores, #candidates
  end

  -- Of the waiting agents that fit and have room, in order of waiting and each with the
  -- waiter of that name, the one to have the task. Without its id nothing is recorded.
  function chooser.best_idle(b, id, lane, agents, waiters)
    local chosen, reason, scores = 1, 'is the only one that fits and waits for work', ''
    if #agents > 1 then
      local latest = waiters[agents[#agents].id].until_ms
      for i = 1, #agents do
        agents[i].waiting, agents[i].waited_ms = true, latest - waiters[agents[i].id].until_ms
      end
      know_all(b.t, agents, kind_of(lane), true)
      chosen, reason = strategies.choose('best_idle', { id = id or '' }, agents, {})
      scores = id and scores_of(agents, agents[chosen], chooser.shown)
      for i = 1, #agents do agents[i].waiting, agents[i].waited_ms = false, 0 end
    end
    if id then chooser.record(b, id, agents[chosen].id, 'best_idle', reason, #agents, scores) end
    return agents[chosen]
  end

  -- Of a dispatch: whether one of its agents fits the lane, is active and has room.
  function chooser.is_served(b, lane, waiters)
    return #fitting(b, lane) > 0 and #chooser.candidates(b, lane, waiters, {}) > 0
  end

  -- Whether the last dispatch found nobody who fits the lane, and none has come since. Where
  -- that is not known it is false; it reads nothing.
  function chooser.is_unserved(t, lane)
    local memory = t.memory
    return memory and memory.found[lane] == NOBODY and not memory.is_unsorted and not memory.stale['*']
      and memory.count <= chooser.dispatched_to
  end

  -- Of a dispatch: from here on only agents that run without instances are chosen from, and
  -- these are all of them that are active. None is barred. One may have gone since: it is not
  -- open.
  function chooser.alone(t)
    t.is_dispatch = true
    local memory = recollect(t)
    for agent in pairs(memory.barred) do chooser.bar(t, agent, false) end
    return memory.alone
  end

  -- Of a dispatch: of which agents more is to be known than that they have room, by
  -- registration; those that reservations wait for, or whose deliveries fail. And all with room.
  function chooser.special_ones(t)
    local memory, found = t.memory, {}
    note_moved(memory)
    for agent in pairs(memory.special) do
      if agent.alone then found[#found + 1] = agent end
    end
    table.sort(found, function(x, y) return (x.listed or 0) < (y.listed or 0) end)
    return found, memory.open
  end

  -- Of a dispatch that found nobody for what is left: where there are more agents than are
  -- looked at, it is the turn of those behind them, after a while.
  function chooser.turn(t)
    local memory = t.memory
    if memory.count <= chooser.dispatched_to or t.ms - memory.turned_ms < chooser.turn_ms then return end
    memory.first, memory.turned_ms, memory.stale['*'] = memory.first + chooser.dispatched_to, t.ms, true
  end

  -- Leaves an agent out of the choices, or lets it in again.
  function chooser.bar(t, agent, is_barred)
    agent.is_barred = is_barred or nil
    t.memory.barred[agent] = agent.is_barred
    note_room(t.memory, agent)
  end

  -- Why this agent may not be given a task of this lane, or nil.
  function chooser.hurdle(b, agent_id, lane, waiters)
    note_waiting(b, waiters)
    local t, agent = b.t, loaded(b.t, agent_id)
    if not agent then return 'agent_not_found' end
    if agent.status ~= 'active' then return 'agent_' .. agent.status end
    if not serves(agent, lane) then return 'does_not_fit' end
    if t.gated and not breakers.offers(t, agent_id, lane) then return 'circuit_open' end
    if agent.held + agent.reserved >= agent.limit then return 'agent_full' end
  end

  -- The newest decision about a task, as its fields; nil where none is kept.
  function chooser.last(b, id)
    local key, before = choice_keys(b.t.prefix, '').decisions, '+'
    for _ = 1, 2 * chooser.decisions_kept / 100 do
      local rows = redis.pcall('XREVRANGE', key, before, '-', 'COUNT', 100)
      for i = 1, rows.err and 0 or #rows do
        local fields = rows[i][2]
        if fields[2] == id and fields[4] == b.name then return fields end
        before = '(' .. rows[i][1]
      end
      if rows.err or #rows < 100 then return nil end
    end
  end

  -- A reservation was not taken up.
  function chooser.lapsed(t)
    redis.pcall('HINCRBY', choice_keys(t.prefix, '').counters, 'lapsed', 1)
  end

  -- How many decisions there were, and how many reservations were not taken up.
  function chooser.counts(t)
    local keys, made = choice_keys(t.prefix, ''), 0
    local stream = redis.pcall('XINFO', 'STREAM', keys.decisions)
    for i = 1, stream.err and 0 or #stream, 2 do
      if stream[i] == 'entries-added' then made = stream[i + 1] end
    end
    local failed = redis.pcall('HGET', keys.counters, 'lapsed')
    return made, type(failed) == 'string' and tonumber(failed) or 0
  end
end
