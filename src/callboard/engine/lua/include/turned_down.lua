-- Tasks that were pushed to an agent and came back though nothing failed: it gave them back,
-- handed them on, or asked for time.
--
-- The task remembers it, as `turned_down`: when last (ms)|how often|by whom, the latest ones.
-- Others go before these, and from some number on it waits, ever longer: so neither does one
-- agent keep a task from the others, nor is it pushed to and fro without end.
-- include outcome

local turned_down = {
  free = 8, -- times that cost no wait
  first_ms = 1000, most_ms = 30000, -- then it doubles each time
  named = 8, -- agents remembered
}

do
  local function read(b, id, r)
    local at, count, agents = match(has(r, 'E') and recall(b, id, 'turned_down') or '', '^(%d+)|(%d+)|(.*)$')
    return tonumber(at) or 0, tonumber(count) or 0, agents or ''
  end

  local function wait_after(count)
    if count <= turned_down.free then return 0 end
    return math.min(turned_down.most_ms, turned_down.first_ms * 2 ^ math.min(count - turned_down.free - 1, 30))
  end

  -- Notes that this agent did not keep it. Answers how long it is to wait, in ms.
  function turned_down.note(b, id, r, agent)
    local _, count, agents = read(b, id, r)
    local names, n = { agent }, 1
    for name in gmatch(agents, '[^,]+') do
      if name ~= agent and n < turned_down.named then
        n = n + 1
        names[n] = name
      end
    end
    unflag(r, 'H') -- whom it was suggested to had its turn
    remember(b, id, r, 'turned_down', int(b.t.ms) .. '|' .. int(count + 1) .. '|' .. concat(names, ','))
    return wait_after(count + 1)
  end

  -- The same where the task was pushed to its holder; 0 where that one pulls.
  function turned_down.by_holder(b, id, r)
    local t, agent = b.t, r[HOLDER]
    if b.dispatched <= t.ms or has(r, 'C') or string.find(agent, '/', 1, true) then return 0 end
    t.is_pushed_to = t.is_pushed_to or {}
    if t.is_pushed_to[agent] == nil then
      local push = redis.pcall('HGET', agent_key(t.prefix, agent), 'push') -- somebody else's value is none
      t.is_pushed_to[agent] = type(push) == 'string' and push ~= ''
    end
    return t.is_pushed_to[agent] and turned_down.note(b, id, r, agent) or 0
  end

  -- Whether one that was handed to an agent has to wait before it is pushed there.
  function turned_down.is_waiting(b, id, r)
    local at, count = read(b, id, r)
    return b.t.ms < at + wait_after(count)
  end

  -- By whom, with commas between them.
  function turned_down.by(b, id, r) return (select(3, read(b, id, r))) end
end
