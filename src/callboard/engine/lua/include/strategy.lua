-- The strategies by which an agent is chosen: pure functions of a task and its candidates.
--
-- Nothing here knows the engine, so the simulator runs this very text. The gate is the
-- caller's: each candidate fits, is healthy enough and has room. docs/reference/strategies.md
-- has the formulas; a higher score is better, and each strategy says why in a few words.
--
-- A task is { id, kind, key, priority, required }, a candidate { id, held, reserved, limit,
-- ready, health, waiting, waited_ms, avg_ms, mean_ms, runs, done, failed, recent_done,
-- recent_failed, cpu, memory, response_ms, weight, priority, match, was_last }; what is not
-- known may be missing. `state` is kept from one choice to the next: { turn, last }.

local HASH_PRIME = 67108859 -- 2 modulo 3, so that cubing permutes; a square fits a double
local HASH_MOST = 1000 -- of a key's text, the bytes that count
local WEIGHT_CUTS = 12 -- then the turns that are left are sorted

local strategies = {
  alpha = 0.1, -- weight of the newest run in the moving averages, once there were ten
  recent = 10, -- outcomes remembered as the recent ones
  tried = 2, -- runs that what is supposed of an unknown agent weighs as much as
  untried = 0.7, -- what it is supposed to take, as a share of the mean: less, so it is tried
  crowded = 0.25, -- by how much of its time an agent with all slots taken is held to be slower
  spread = 1.25, -- of the mean load that consistent_hash lets an agent have
  shown = 64, -- of many candidates, those whose scores are always made
  names = {
    'best_idle', 'least_connections', 'round_robin', 'least_response_time',
    'weighted_round_robin', 'resource_based', 'capability_based', 'predictive',
    'consistent_hash', 'affinity', 'hybrid', 'work_stealing', 'random',
  },
  aliases = {
    capability = 'capability_based', ['round-robin'] = 'round_robin',
    ['least-loaded'] = 'least_connections', ['work-stealing'] = 'work_stealing',
  },
  -- What a strategy looks at beyond the counts: how an agent's runs went, what was reported
  -- and declared of it, whose turn it was; with `all`, how its runs compare to the others'.
  reads = {
    best_idle = { runs = true, all = true }, least_response_time = { runs = true },
    round_robin = { turn = true }, weighted_round_robin = { turn = true, load = true },
    resource_based = { runs = true, load = true }, capability_based = { runs = true, load = true },
    predictive = { runs = true, load = true }, consistent_hash = { load = true },
    affinity = { runs = true, all = true, load = true },
    hybrid = { runs = true, all = true, load = true },
    work_stealing = { runs = true, load = true }, least_connections = {}, random = {},
  },
}

do
  -- A moving average that is the plain mean at first: `count` values are in it already.
  function strategies.average(before, count, value)
    local share = 1 / (count + 1)
    if share < strategies.alpha then share = strategies.alpha end
    return before + share * (value - before)
  end

  -- Of strategies that score an agent by itself, whatever the task: its score, and why it
  -- was chosen. So a caller that remembers the scores need not compare all again.
  strategies.scores, strategies.reasons = {}, {}

  local function load_of(c) return c.held + c.reserved end

  -- Between equal scores: the lower share of its room taken, the higher priority, the longer
  -- waiting, the longer without a turn where turns are counted; then whoever comes first.
  function strategies.is_before(x, y)
    local taken, other = load_of(x) / x.limit, load_of(y) / y.limit
    if taken ~= other then return taken < other end
    local mine, its = x.priority or 0, y.priority or 0
    if mine ~= its then return mine > its end
    local waited, as_long = x.waited_ms or 0, y.waited_ms or 0
    if waited ~= as_long then return waited > as_long end
    return (x.turn or 0) < (y.turn or 0)
  end

  local is_before = strategies.is_before

  -- Scores each candidate and returns the index of the best; a score of false passes it over.
  local function best_of(candidates, score)
    local best, highest, chosen
    for i = 1, #candidates do
      local c = candidates[i]
      local its = score(c)
      c.score = its
      if its and (not best or its > highest or its == highest and is_before(c, chosen)) then
        best, highest, chosen = i, its, c
      end
    end
    return best
  end

  local function share_left(part) return part and (part < 1 and 1 - part or 0) or 1 end

  -- The share of its tasks that an agent did, of all that ended; nil where none has.
  local function done_share(c)
    local ended = (c.done or 0) + (c.failed or 0)
    return ended > 0 and c.done / ended or nil
  end

  -- The mean of what is known: CPU and memory free, speed (0 at ten seconds), tasks done.
  function strategies.performance(c)
    local sum, parts, done = share_left(c.cpu) + share_left(c.memory), 2, done_share(c)
    if c.response_ms then sum, parts = sum + share_left(c.response_ms / 10000), parts + 1 end
    if done then sum, parts = sum + done, parts + 1 end
    return sum / parts
  end

  -- The share of tasks done once there were more than ten; 1 before.
  function strategies.reliability(c)
    return (c.done or 0) + (c.failed or 0) > 10 and done_share(c) or 1
  end

  -- How long the agent would take until the task is done, as a share of what others take:
  -- its mean for this kind, drawn towards that of an unknown one; more where it fails, and a
  -- little more where its slots are taken.
  function strategies.expected(c)
    local runs, supposed = c.runs or (c.avg_ms and 10 or 0), strategies.tried
    local takes = strategies.untried
    if c.avg_ms and c.mean_ms and c.mean_ms > 0 then
      takes = (runs * c.avg_ms / c.mean_ms + supposed * takes) / (runs + supposed)
    end
    local done, failed = c.recent_done or 0, c.recent_failed or 0
    local crowd = strategies.crowded * load_of(c) / (c.ready or c.limit)
    return takes * (done + failed + supposed) / (done + supposed) * (1 + crowd)
  end

  local function text_hash(text, base)
    local h, count = base, #text
    if count > HASH_MOST then count = HASH_MOST end
    for i = 1, count do h = (h * base + string.byte(text, i)) % HASH_PRIME end
    return h
  end

  local function cubed(x) return (x * x % HASH_PRIME) * x % HASH_PRIME end

  -- A number from 0 to 1, exclusive, that two pairs of hashes always give alike.
  local function mixed(k1, k2, a1, a2)
    local x = cubed((k1 * 31 + a1) % HASH_PRIME)
    x = cubed((x + a2 * 7 + k2) % HASH_PRIME)
    return (cubed((x + a1 + k1 * 3) % HASH_PRIME) + 0.5) / HASH_PRIME
  end

  local choose = {}

  -- Of the agents that wait for work, the one expected to be done first.
  function choose.best_idle(_, candidates)
    local best = best_of(candidates, function(c) return c.waiting and -strategies.expected(c) end)
    if not best then return nil, 'no agent waits for work' end
    local c = candidates[best]
    if not (c.avg_ms and c.mean_ms) then return best, 'waits for work; its speed is not known yet' end
    return best, string.format('waits for work; expected at %.2f of the usual time', -c.score)
  end

  function strategies.scores.least_connections(c) return 0 - load_of(c) end

  function strategies.reasons.least_connections(c)
    return string.format('has the fewest tasks: %d', load_of(c))
  end

  -- The next one by name after the last, wherever agents came or went.
  function choose.round_robin(_, candidates, state)
    local last, first, following = state.last or '', nil, nil
    for i = 1, #candidates do
      local id = candidates[i].id
      candidates[i].score = 0
      if not first or id < candidates[first].id then first = i end
      if id > last and (not following or id < candidates[following].id) then following = i end
    end
    local chosen = following or first
    state.last, candidates[chosen].score = candidates[chosen].id, 1
    return chosen, last == '' and 'is the first in turn' or 'is next after ' .. last
  end

  function strategies.scores.least_response_time(c) return 0 - (c.response_ms or 0) end

  function strategies.reasons.least_response_time(c)
    return c.response_ms and string.format('has the shortest mean time: %.3f s', c.response_ms / 1000)
      or 'has no time measured yet'
  end

  -- Of n agents the i-th of weight w has its turns at the times (k + (i - 0.5) / n) / w, with
  -- k from 0 on; the turns of all, in order of time, are one after the other's. So each has its
  -- share, spread evenly, and whole weights their exact share of as many turns as their sum.
  function choose.weighted_round_robin(_, candidates, state)
    local n, sum, are_whole = #candidates, 0, true
    for i = 1, n do
      local weight = candidates[i].weight or 1
      candidates[i].score = weight
      sum, are_whole = sum + weight, are_whole and weight % 1 == 0
    end
    local turn, floor = state.turn or 0, math.floor
    state.turn = turn + 1
    local wanted = are_whole and turn % sum or turn -- turns that come before it

    local function turns_until(i, time) -- those of one agent
      local turns = time * candidates[i].score + 1 - (i - 0.5) / n
      return turns >= 1 and floor(turns) or 0
    end

    local function all_until(time)
      local count = 0
      for i = 1, n do
        local turns = time * candidates[i].score + 1 - (i - 0.5) / n
        if turns >= 1 then count = count + floor(turns) end
      end
      return count
    end

    -- The agents are together never further than n turns from their shares.
    local from, to = (wanted - n) / sum, (wanted + 1 + n) / sum
    local before, after = all_until(from), all_until(to)
    for _ = 1, WEIGHT_CUTS do
      if after - before <= 2 then break end
      local middle = from + (to - from) * (wanted + 0.5 - before) / (after - before)
      local count = all_until(middle)
      if count > wanted then to, after = middle, count else from, before = middle, count end
    end
    local turns = {}
    for i = 1, n do
      for k = turns_until(i, from), turns_until(i, to) - 1 do
        turns[#turns + 1] = { i, (k + (i - 0.5) / n) / candidates[i].score }
      end
    end
    table.sort(turns, function(x, y) return x[2] < y[2] or x[2] == y[2] and x[1] < y[1] end)
    local chosen = turns[wanted - before + 1][1]
    return chosen, string.format('has turn %d by its weight of %g', turn + 1, candidates[chosen].score)
  end

  function strategies.scores.resource_based(c)
    return (share_left(c.cpu) + share_left(c.memory)) * 50 * strategies.performance(c)
  end

  function strategies.reasons.resource_based(c)
    return string.format('has the most free CPU and memory by its performance: %.1f', c.score)
  end

  function strategies.scores.capability_based(c) return (c.match or 1) * strategies.performance(c) end

  function strategies.reasons.capability_based(c)
    return string.format('has what is required, and performs at %.2f', c.score)
  end

  function strategies.scores.predictive(c)
    local score = (strategies.performance(c) + strategies.reliability(c)) / 2
    local recent = (c.recent_done or 0) + (c.recent_failed or 0)
    return recent > 0 and 0.7 * score + 0.3 * c.recent_done / recent or score
  end

  function strategies.reasons.predictive(c) return string.format('is predicted to do best: %.2f', c.score) end

  -- `mixed` of each candidate and the key, as the whole number that it is made of: in one
  -- loop, as it is wanted of every agent for every task. Also who has the highest, the sum of
  -- loads and one, and whether all weigh the same.
  local function draws_of(k1, k2, candidates, draws)
    local prime, k31, k3, loads, are_alike = HASH_PRIME, k1 * 31, k1 * 3, 1, true
    local first, highest = nil, -1
    for i = 1, #candidates do
      local c = candidates[i]
      local a1, a2 = c.hash, c.hash_2
      if not a1 then
        a1, a2 = text_hash(c.id, 257), text_hash(c.id, 263)
        c.hash, c.hash_2 = a1, a2
      end
      local x = (k31 + a1) % prime
      x = (x * x % prime) * x % prime
      x = (x + a2 * 7 + k2) % prime
      x = (x * x % prime) * x % prime
      x = (x + a1 + k3) % prime
      x = (x * x % prime) * x % prime
      draws[i], loads = x, loads + c.held + c.reserved
      if x > highest then first, highest = i, x end
      if (c.weight or 1) ~= 1 then are_alike = false end
    end
    return first, loads, are_alike
  end

  local function score_of_draw(c, draw)
    return (c.weight or 1) / -math.log((draw + 0.5) / HASH_PRIME)
  end

  -- Among those that weigh the same, which most do, who has the highest draw has the highest
  -- score: the scores themselves are only for those that are shown.
  local function best_of_draws(candidates, draws, first, loads)
    local bound, best, highest = math.ceil(strategies.spread * loads / #candidates), nil, -1
    if load_of(candidates[first]) < bound then
      best = first
    else
      for i = 1, #candidates do
        if draws[i] > highest and load_of(candidates[i]) < bound then best, highest = i, draws[i] end
      end
    end
    for i = 1, #candidates do
      if i > strategies.shown then break end
      candidates[i].score = score_of_draw(candidates[i], draws[i])
    end
    candidates[first].score = score_of_draw(candidates[first], draws[first])
    if best then candidates[best].score = score_of_draw(candidates[best], draws[best]) end
    return best
  end

  local function best_of_weights(candidates, draws, loads)
    local weights, best, first = 0, nil, nil
    for i = 1, #candidates do
      local c = candidates[i]
      c.score, weights = score_of_draw(c, draws[i]), weights + (c.weight or 1)
    end
    for i = 1, #candidates do
      local c = candidates[i]
      local bound = math.ceil(strategies.spread * loads * (c.weight or 1) / weights)
      if not first or c.score > candidates[first].score then first = i end
      if load_of(c) < bound and (not best or c.score > candidates[best].score) then best = i end
    end
    return best, first
  end

  local draws = {} -- of the choice that is made, as long as the longest one was

  -- Highest random weight, so a change of membership moves only the share of who came or
  -- went; passed on to the next where an agent has more than 1.25 times its share.
  function choose.consistent_hash(task, candidates)
    local key, best = task.key or task.id, nil
    local first, loads, are_alike = draws_of(text_hash(key, 257), text_hash(key, 263), candidates, draws)
    if are_alike then
      best = best_of_draws(candidates, draws, first, loads)
    else
      best, first = best_of_weights(candidates, draws, loads)
    end
    if best == first then return best, 'is the first choice for its key' end
    return best, 'is the next choice for its key; ' .. candidates[first].id .. ' has its share'
  end

  function choose.affinity(task, candidates, state)
    local best = best_of(candidates, function(c)
      return c.was_last and load_of(c) < 0.8 * c.limit and 1
    end)
    if best then return best, 'was the last to do this kind' end
    return strategies.choose('capability_based', task, candidates, state)
  end

  function choose.hybrid(_, candidates)
    local best = best_of(candidates, function(c)
      local used = (math.min(1, c.reserved / 10) + (c.cpu or 0) + (c.memory or 0)
        + math.min(1, c.held / c.limit)) / 4
      local performs = 0.5
      if c.avg_ms and c.mean_ms then
        local speed = c.avg_ms > 0 and math.min(1, c.mean_ms / c.avg_ms) or 1
        performs = (speed + (done_share(c) or 1)) / 2
      end
      return 0.25 * (1 - used) + 0.3 * performs + 0.3 * (c.match or 1) + 0.15 * (c.was_last and 1 or 0.5)
    end)
    return best, string.format('has the best of load, performance, capability and affinity: %.3f', candidates[best].score)
  end

  function strategies.scores.work_stealing(c)
    return 100 - 10 * load_of(c) - 50 * (c.cpu or 0) - 30 * (c.memory or 0) + 5 * (c.priority or 0)
      + 20 * (c.match or 1) - (c.response_ms or 0) * load_of(c) / 1000
  end

  function strategies.reasons.work_stealing(c) return string.format('has the best score: %.1f', c.score) end

  -- By the task's id and the number of candidates alone, so it can be told again.
  function choose.random(task, candidates)
    for i = 1, #candidates do candidates[i].score = 0 end
    local share = mixed(text_hash(task.id, 257), text_hash(task.id, 263), #candidates, 1)
    local chosen = math.floor(share * #candidates) + 1
    candidates[chosen].score = 1
    return chosen, 'was drawn by lot'
  end

  -- The index of the candidate to take, or nil, and why. Scores each that it compared.
  function strategies.choose(name, task, candidates, state)
    local is_called = strategies.aliases[name] or name
    local chosen, score = choose[is_called], strategies.scores[is_called]
    if not (chosen or score) then error('callboard: no strategy ' .. name) end
    if #candidates == 0 then return nil, 'no agent that fits has room' end
    if chosen then return chosen(task, candidates, state) end
    local best = best_of(candidates, score)
    return best, strategies.reasons[is_called](candidates[best])
  end
end
