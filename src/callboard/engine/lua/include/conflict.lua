-- Conflicts: several parties want what only one can have. One is decided for, once, and what
-- it is about is made to agree in the same call.
--
-- `conflicts:record:{id}` is a hash: kind (resource, task, context), subject, board, about,
-- parties in the order of the report, status, and what a party brought under `party:name`.
-- Statuses: open, voting, referred (to an arbiter), undecided, resolved.
-- include hold, context

local CONFLICT_KEPT_MS = 604800000 -- 7 days after its end
local CONFLICTS_KEPT_MOST = 10000
local CONFLICT_LAPSES_MS = 2592000000 -- one that nobody decides in 30 days is abandoned
local CONFLICT_LOG_MOST = 2000
local CONFLICT_TAKE_UP_MS = 30000 -- a reservation for the winner of a task lapses after this
local CONFLICT_MEMBERS_MOST = 1000

local conflicts = {}

-- Reading

function conflicts.read(t, id)
  local keys = conflict_keys(t.prefix, id)
  local flat = call('HGETALL', keys.record)
  if #flat == 0 then return nil end
  local c = { id = id, keys = keys, f = {}, parties = {}, places = {} }
  for i = 1, #flat, 2 do c.f[flat[i]] = flat[i + 1] end
  for name in gmatch(c.f.parties, '[^,]+') do
    c.parties[#c.parties + 1] = name
    c.places[name] = #c.parties
  end
  return c
end

-- One to remove, even where somebody else took its record away.
function conflicts.read_or_ghost(t, id)
  return conflicts.read(t, id)
    or { id = id, keys = conflict_keys(t.prefix, id), f = { kind = 'resource', subject = '' } }
end

function conflicts.of_party(c, name, field) return c.f[name .. ':' .. field] end

function conflicts.is_resolved(c) return c.f.status == 'resolved' end

-- Fails with WRONGTYPE, before anything was written, where a key of conflicts is somebody else's.
function conflicts.touch(t, keys)
  touch('HLEN', keys.record)
  touch('HLEN', keys.votes)
  touch('SCARD', keys.electorate)
  touch('SCARD', keys.strategies)
  touch('LLEN', keys.log)
  for _, key in ipairs({ keys.all, keys.open, keys.due, keys.resolved }) do touch('ZCARD', key) end
  touch('XLEN', events_key(t.prefix))
end

-- The same for what ending it by `strategy`, or removing it, reaches besides.
function conflicts.touch_end(t, c, strategy)
  conflicts.touch(t, c.keys)
  touch('ZCARD', c.keys.by_kind .. c.f.kind)
  if strategy then touch('ZCARD', c.keys.by_strategy .. strategy) end
  if c.f.arbiter then touch('ZCARD', c.keys.pending .. c.f.arbiter) end
end

-- Writing

function conflicts.put(t, c, field, value)
  c.f[field] = value or nil
  hput(t, c.keys.record, field, value)
end

-- The trail: what was done, by whom, and with what as JSON.
function conflicts.log(t, c, what, by, inputs)
  call('RPUSH', c.keys.log, '{"at":' .. t.ms .. ',"by":"' .. by .. '","what":"' .. what
    .. '","inputs":' .. (inputs == '' and 'null' or inputs) .. '}')
  call('LTRIM', c.keys.log, -CONFLICT_LOG_MOST, -1)
end

function conflicts.subject(c)
  return (c.f.kind == 'task' and c.f.board .. '/' or '') .. c.f.subject
end

function conflicts.tell(t, c, kind, state, holder, extra)
  fact(t, kind, '', c.id, state, holder, 0, conflicts.subject(c) .. '|' .. string.gsub(extra, '%c', ' '))
end

-- Out of the hands of voters and arbiters.
function conflicts.recall(t, c)
  if c.f.arbiter then zput(t, c.keys.pending .. c.f.arbiter, c.id, false) end
  for _, field in ipairs({ 'arbiter', 'fallback', 'fallback_reason', 'deadline' }) do
    if c.f[field] then conflicts.put(t, c, field, false) end
  end
end

function conflicts.leave_undecided(t, c, reason)
  conflicts.recall(t, c)
  conflicts.put(t, c, 'status', 'undecided')
  conflicts.put(t, c, 'reason', reason)
  zput(t, c.keys.due, c.id, tonumber(c.f.created_at) + CONFLICT_LAPSES_MS)
  conflicts.log(t, c, 'undecided', t.by, '"' .. reason .. '"')
  conflicts.tell(t, c, 'conflict:undecided', 'undecided', '', reason)
end

-- Ends a conflict, and makes what it is about agree. `plan` is of `plan`, or says why not.
function conflicts.settle(t, c, verdict, plan)
  local enforced = plan.run and plan.run() or plan.word
  conflicts.recall(t, c)
  local fields = { status = 'resolved', winner = verdict.winner, strategy = verdict.strategy,
    reason = verdict.reason, resolved_by = verdict.by, resolved_at = t.ms, enforced = enforced,
    operation = verdict.operation }
  for field, value in pairs(fields) do conflicts.put(t, c, field, value) end
  zput(t, c.keys.open, c.id, false)
  zput(t, c.keys.resolved, c.id, t.ms)
  zput(t, c.keys.due, c.id, t.ms + CONFLICT_KEPT_MS)
  call('SADD', c.keys.strategies, verdict.strategy)
  zput(t, c.keys.by_strategy .. verdict.strategy, c.id, t.ms)
  conflicts.log(t, c, 'resolved', verdict.by, '{"strategy":"' .. verdict.strategy .. '","winner":"'
    .. verdict.winner .. '","enforced":"' .. enforced .. '","given":' .. (verdict.inputs or 'null') .. '}')
  conflicts.tell(t, c, 'conflict:resolved', 'resolved', verdict.winner,
    verdict.strategy .. '|' .. enforced .. '|' .. verdict.reason)
end

-- Removes a conflict that has ended with all that is known of it.
function conflicts.remove(t, c)
  local k = c.keys
  call('DEL', k.record, k.votes, k.electorate, k.log)
  for _, key in ipairs({ k.all, k.open, k.due, k.resolved, k.by_kind .. c.f.kind }) do
    call('ZREM', key, c.id)
    if t.sets[key] then t.sets[key][c.id] = nil end
  end
  t.hashes[k.record] = nil
  if c.f.strategy then
    call('ZREM', k.by_strategy .. c.f.strategy, c.id)
    if call('EXISTS', k.by_strategy .. c.f.strategy) == 0 then call('SREM', k.strategies, c.f.strategy) end
  end
  fact(t, 'conflict:removed', '', c.id, 'removed', c.f.winner or '', 0, conflicts.subject(c))
end

-- Writes all that was gathered, locks and places too.
function conflicts.finish(t)
  cascade(t)
  if t.locks then
    locks.wake(t)
    locks.flush(t)
  end
  finish(t)
end

-- Votes

-- What the votes come to by now: winner and reason, or nil and the reason why it is undecided;
-- nothing where the ballot goes on. A decision comes early only where no vote that is
-- still out could change it.
function conflicts.count(c, votes, is_late)
  local size, quorum, threshold = tonumber(c.f.size), tonumber(c.f.quorum), tonumber(c.f.threshold)
  local sums, given, weight = {}, 0, 0
  for i = 1, #c.parties do sums[c.parties[i]] = 0 end
  for _, vote in pairs(votes) do
    local candidate, confidence = match(vote, '^([^|]*)|([^|]*)')
    confidence = tonumber(confidence)
    given, weight = given + 1, weight + confidence
    if candidate ~= '' then sums[candidate] = sums[candidate] + confidence end
  end
  local out, best, first, second, ties = size - given, nil, 0, 0, 0
  for i = 1, #c.parties do
    local sum = sums[c.parties[i]]
    if sum > first then
      best, first, second, ties = c.parties[i], sum, first, 1
    elseif sum == first then
      second, ties = sum, ties + 1
    elseif sum > second then
      second = sum
    end
  end
  local is_consensus = c.f.rule == 'consensus'
  local said = format('%.6g', first) .. ' of ' .. format('%.6g', weight)
  if not is_late and (out > 0 or c.f.revisable == '1') then
    if given < quorum or c.f.revisable == '1' or first == 0 then return nil, nil end
    local is_ahead = first - second > out -- of each other party, whatever the others say
    local is_enough = first / (weight + out) >= threshold - 1e-9
    if not is_consensus and is_ahead
      or is_consensus and is_enough and (threshold > 0.5 or is_ahead) then
      return best, said .. ', whatever the ' .. out .. ' others would say'
    end
    return nil, nil
  end
  if given == 0 then return nil, 'no_votes' end
  if given < quorum then return nil, 'no_quorum' end
  if first == 0 then return nil, 'no_votes_for_a_party' end
  if is_consensus and first / weight < threshold - 1e-9 then return nil, 'no_consensus' end
  if ties > 1 and c.f.tie ~= 'first' then return nil, 'tie' end
  return best, said .. (ties > 1 and ', the first listed of ' .. ties .. ' that are even' or '')
end

function conflicts.votes(c)
  local votes, flat = {}, call('HGETALL', c.keys.votes)
  for i = 1, #flat, 2 do votes[flat[i]] = flat[i + 1] end
  return votes
end

-- The current revision of what a conflict is about, and the first party that presented it.
function conflicts.current(t, c)
  local fences = {}
  if c.f.kind == 'context' then
    fences[1] = int(contexts.read(t, c.f.subject).rev)
  elseif c.f.kind == 'task' then
    local r = load_record(board(t, c.f.board), c.f.subject)
    fences[1] = r and r[FENCE] or '0'
  else
    local spots = locks.spots(t, c.f.subject)
    for k = 1, #spots do
      local l = locks.resource(t, spots[k])
      for owner in pairs(l.raw) do fences[#fences + 1] = locks.holding(l, owner).fence end
    end
  end
  for i = 1, #c.parties do
    local rev = conflicts.of_party(c, c.parties[i], 'rev')
    for k = 1, #fences do
      if rev == fences[k] then return fences[k], c.parties[i] end
    end
  end
  return fences[1] or '0', nil
end

-- Enforcing

-- What a verdict for this party would change, as a plan whose `run` does it and answers what
-- was done; or a refusal. Nothing is written, and all that `run` writes is touched.
function conflicts.plan(t, c, winner)
  if c.f.enforce ~= '1' then return { word = 'not_asked' } end
  local kind = c.f.kind
  if kind == 'context' then return conflicts.plan_context(t, c, winner) end
  if kind == 'resource' then return conflicts.plan_lock(t, c, winner) end
  if c.f.about == 'output' then return conflicts.plan_output(t, c, winner) end
  if c.f.about == 'assignment' then return conflicts.plan_task(t, c, winner) end
  return { word = 'advice' }
end

-- The same for a verdict that nobody waits for: one that cannot be enforced stands all the same.
function conflicts.plan_or_word(t, c, winner)
  local plan, refusal = conflicts.plan(t, c, winner)
  return plan or { word = 'refused: ' .. refusal[1] }
end

function conflicts.plan_context(t, c, winner)
  local value, letter = conflicts.of_party(c, winner, 'value'), conflicts.of_party(c, winner, 'type')
  if not value then return nil, { 'no_value', winner } end
  local context = contexts.read(t, c.f.subject)
  local plan, refusal = contexts.plan(context, { c.f.about, letter, value }, 1, 1, false)
  if not plan then return nil, refusal end
  contexts.touch(t, context)
  return { run = function()
    contexts.write(t, context, plan, 'conflict', '', false)
    return 'written'
  end }
end

function conflicts.plan_output(t, c, winner)
  local value, b, id = conflicts.of_party(c, winner, 'value'), board(t, c.f.board), c.f.subject
  if not value then return nil, { 'no_value', winner } end
  local r = load_record(b, id)
  if not r then return nil, { 'task_not_found' } end
  if r[STATUS] == 'f' or r[STATUS] == 'x' then return nil, { 'illegal_state', WORDS[r[STATUS]] } end
  touch_board(b)
  touch_holders(b, { id })
  return { run = function()
    hput(t, b.keys.results, id, value)
    if r[STATUS] == 'd' then return 'result_replaced' end
    leave(b, id, r)
    flag(r, 'V')
    unflag(r, 'C')
    if agent_of(r) ~= winner then -- what its holder hands in later is not what was accepted
      r[HOLDER], r[FENCE] = winner, int(take_fences(t, 1))
    end
    end_task(b, id, r, 'd')
    fact(t, 'task:completed', b.name, id, 'done', r[HOLDER], r[FENCE])
    if t.channels then publish_completed(b, id, r, value, iso(t.ms)) end
    return 'completed'
  end }
end

function conflicts.plan_task(t, c, winner)
  local b, id = board(t, c.f.board), c.f.subject
  local r = load_record(b, id)
  if not r then return nil, { 'task_not_found' } end
  local status = r[STATUS]
  if FINISHED[status] then return { word = 'finished' } end
  if has(r, 'C') then return { word = 'cancel_requested' } end
  if (HELD[status] or status == 'a') and agent_of(r) == winner then return { word = 'kept' } end
  local agent = load_agent(t, winner)
  if not agent then return nil, { 'agent_not_found' } end
  if not takes_work(agent) then return nil, { 'agent_draining', agent.status } end
  if not serves(agent, r[LANE]) then
    return nil, { 'does_not_fit', concat(missing_for(agent.profile, r[LANE]), ', ') }
  end
  touch_board(b)
  touch_holders(b, { id })
  if status == 'b' or status == 's' or status == 'q' then
    return { run = function()
      remember(b, id, r, 'suggested', winner .. '|' .. CONFLICT_TAKE_UP_MS)
      flag(r, 'H')
      save(b, id)
      return 'suggested'
    end }
  end
  return { run = function()
    local holder, was_held = r[HOLDER], HELD[status]
    leave(b, id, r)
    if was_held then
      flag(r, 'V') -- its holder is not to think that it gave the task back
      fact(t, 'task:released', b.name, id, 'assigned', holder, r[FENCE])
      if string.find(holder, '/', 1, true) then t.bells[agent_bell(t.prefix, holder)] = 'cancel' end
    end
    if r[SCORE] == '' then r[SCORE] = int(t.now - tonumber(r[PRIORITY]) * b.step) end
    reserve(b, id, r, winner, t.ms + CONFLICT_TAKE_UP_MS, 'R')
    local waiting = waiters_of(b)
    for i = 1, #waiting do
      if waiting[i].id == winner then ring(b, waiting[i], id) end
    end
    save(b, id)
    return was_held and 'taken_back' or 'reserved'
  end }
end

-- The party that an owner of a lock belongs to: named so, or given as its owner, or its agent.
function conflicts.party_of(c, owner, agent)
  for i = 1, #c.parties do
    if conflicts.of_party(c, c.parties[i], 'owner') == owner then return c.parties[i] end
  end
  return c.places[owner] and owner or c.places[agent] and agent or nil
end

-- Who holds what overlaps the subject, and who waits for it: what the losers hold, the first
-- wait of the winner, the waits of the losers, the place before all of them, and whether the
-- winner holds the subject, or part of it.
function conflicts.around(t, c, winner)
  local s, names = locks.of(t), locks.spots(t, c.f.subject)
  local found = { spots = {}, taken = {}, losers = {}, head = math.huge }
  if s.is_broad then return nil, { 'too_many_locks', LOCK_OVERLAPS_MOST, s.is_broad } end
  local seen = {}
  for k = 1, #names do
    found.spots[names[k]] = true
    local l = locks.resource(t, names[k])
    for owner in pairs(l.raw) do
      local h = locks.holding(l, owner)
      local party = conflicts.party_of(c, owner, h.agent)
      if party == winner and h.mark == '' then
        found.is_part = true
        found.is_kept = found.is_kept or k == 1
      elseif party and party ~= winner then
        found.taken[#found.taken + 1] = { l, owner }
      end
    end
    local queue = l.waiting == 0 and {}
      or call('ZRANGE', s.keys.queue .. names[k], 0, CONFLICT_MEMBERS_MOST - 1, 'WITHSCORES')
    if queue[2] then found.head = math.min(found.head, tonumber(queue[2])) end
    for i = 1, #queue, 2 do
      local w = not seen[queue[i]] and locks.wait_of(t, queue[i])
      local party = w and conflicts.party_of(c, w.owner, w.agent)
      if party == winner and party and not found.wait then found.wait = w end
      if party and party ~= winner then found.losers[#found.losers + 1] = w end
      seen[queue[i]] = true
    end
  end
  table.sort(found.taken, function(x, y)
    return x[2] < y[2] or x[2] == y[2] and x[1].name < y[1].name
  end)
  return found
end

function conflicts.plan_lock(t, c, winner)
  local found, broad = conflicts.around(t, c, winner)
  if not found then return nil, broad end
  local s, taken, first, is_kept = locks.of(t), found.taken, found.wait, found.is_kept
  locks.touch(t, winner)
  for i = 1, #taken do locks.touch(t, taken[i][2]) end
  if #taken == 0 and not first and #found.losers == 0 then
    return { word = found.is_part and 'kept' or 'nothing_held' }
  end
  return { run = function()
    if first and not is_kept then
      first.score = math.min(first.score, found.head - 1)
      for i = 1, #first.set do
        if found.spots[first.set[i]] then
          zput(t, s.keys.queue .. first.set[i], first.owner, int(first.score))
        end
      end
      locks.keep_wait(t, first)
      write_sets(t) -- handing over reads the queue
    elseif not found.is_part then
      for i = 1, #found.losers do locks.end_wait(t, found.losers[i], 'lapsed') end
    end
    if #taken > 0 then
      local fence = int(take_fences(t, 1))
      for i = 1, #taken do
        local l, owner = taken[i][1], taken[i][2]
        local h = locks.holding(l, owner)
        if h then -- else it went with another that was handed over beside it
          fact(t, 'resource:forced', '', l.name, 'forced', owner, fence, h.agent .. '|conflict ' .. c.id)
          local w = locks.wait_of(t, owner)
          if w and w.state == 'g' and h.mark == 'h' then
            locks.take_back(t, w, 'forced')
          else
            locks.drop(t, l, owner, 'forced')
          end
        end
      end
    end
    if is_kept or not first then return found.is_part and 'kept' or 'freed' end
    locks.wake(t)
    return first.state == 'g' and 'handed_over' or 'first_in_line' -- for what else it waits for
  end }
end
