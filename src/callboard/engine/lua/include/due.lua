-- Which of a namespace's sweeps have something to do: each is one look at what it begins with.
-- include open

local sweeps = {}
do
  -- Each may be somebody else's value; then the sweep goes, and says so.
  local function look(...)
    local found = redis.pcall(...)
    if type(found) == 'table' and found.err then return nil end
    return found
  end

  local function has_past(key, ms)
    local first = look('ZRANGE', key, 0, 0, 'WITHSCORES')
    return not first or first[1] and tonumber(first[2]) <= ms
  end

  local function has_some(command, key, most) return (look(command, key) or math.huge) > (most or 0) end

  local function has_locks(t)
    local keys = lock_keys(t.prefix)
    return has_past(keys.due, t.ms) or has_past(keys.waits_due, t.ms) or has_past(keys.forced, t.ms)
      or has_some('ZCARD', keys.pending) or has_some('ZCARD', keys.unchecked)
  end

  -- Broadcasts go by age and number, and with the last of them the places that agents had there.
  local function has_broadcasts(t, keys)
    local count = look('XLEN', keys.broadcasts)
    if not count or count > MSG_BROADCASTS_MOST then return true end
    if count == 0 then return (look('HLEN', keys.cursors) or 1) == 1 end
    local first = call('XRANGE', keys.broadcasts, '-', '+', 'COUNT', 1)[1]
    return tonumber(first[2][4]) <= t.ms - MSG_BROADCAST_MS
  end

  local function has_messages(t)
    local keys = message_keys(t.prefix, '')
    return has_past(keys.all, t.ms) or has_broadcasts(t, keys)
  end

  local function has_conflicts(t)
    local keys = conflict_keys(t.prefix, '')
    return has_past(keys.due, t.ms) or has_some('ZCARD', keys.resolved, CONFLICTS_KEPT_MOST)
  end

  local function has_samples(t)
    local sampled = look('GET', metric_keys(t.prefix).sampled)
    return has_some('ZCARD', boards_key(t.prefix))
      and t.ms >= (tonumber(sampled or '0') or 0) + METRIC_SAMPLE_MS
  end

  -- Their names, as the janitor knows them, with commas between.
  function sweeps.due(t)
    local found, p = {}, t.prefix
    local function note(is_due, name) if is_due then found[#found + 1] = name end end
    note(has_past(agents_due_key(p), t.ms), 'agents')
    note(has_some('LLEN', cascades_key(p)), 'cascades')
    note(has_past(run_keys(p, '').due, t.ms), 'runs')
    note(has_locks(t), 'locks')
    note(has_messages(t), 'messages')
    note(has_some('ZCARD', flow_keys(p).rates), 'flow')
    note(has_past(recurring_keys(p).due, t.ms), 'recurring')
    note(has_past(context_keys(p, '').due, t.ms), 'context')
    note(has_conflicts(t), 'conflicts')
    note(has_past(breaker_keys(p, '').all, t.ms - BREAKER_UNUSED_MS), 'breakers')
    note(has_samples(t), 'metrics')
    return concat(found, ',')
  end
end
