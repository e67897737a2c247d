-- Errors: the log, what is known of a task's, groups of the same, counters, and cascades.
--
-- Errors are noted as they come up and written together, once a call. A mark is what
-- `domain/error.py` makes of one: fingerprint|severity|recoverable|name|code|message as JSON,
-- none of which but the message holds quotes, and none at all a bar.
-- include open

local ERRORS_KEPT_MS, TRAINING_ERRORS_KEPT_MS, ERROR_GROUPS_KEPT_MS = 604800000, 2592000000, 7776000000
local ERRORS_MOST, ERROR_GROUPS_MOST, ERROR_NAMES_MOST, CASCADES_MOST = 1000000, 100000, 10000, 10000
local CASCADE_WINDOW_MS, CASCADE_TYPES, CASCADE_COOLDOWN_MS, CASCADE_TYPES_TOLD = 300000, 3, 300000, 50
local CASCADE_SLOT_MS, CASCADE_SLOTS = 10000, 30
local ERROR_TYPES_MOST, ERROR_OPERATION_KEPT_MS = 1000, 600000
local ERROR_HOUR_MS, ERROR_MINUTES_KEPT_MS = 3600000, 90000000

local errors = {}
do
  local MARK = '^(%x+)|(%l+)|([01])|([^|]*)|([^|]*)|(.*)$'

  -- Errors that the engine itself makes, each a group by its word alone.
  local MARKS = {
    lease_lost = 'a16c21730abf743a39297be985d25855|medium|1',
    timeout = '7ed6120912d915f6ba8ef82ba3ec0b70|medium|1',
    poison = 'e1bd750c5735ddf4c2f41f2d66e8184b|critical|0',
    deadline_exceeded = 'fbec804edad2f59fec3650f8a1743248|high|0',
  }

  local function group_of(keys, e) return keys.group .. e.fingerprint end

  local function minutes_of(keys, fingerprint, ms)
    return keys.minutes .. fingerprint .. ':' .. floor(ms / ERROR_HOUR_MS)
  end

  -- The default board's tasks are named alone, those of others with their board.
  local function details_of(keys, project, task)
    local key = keys.task .. task .. keys.details
    return project == 'default' and key or key .. ':' .. project
  end

  local function log_of(keys, project, is_training)
    return is_training and keys.training .. project .. keys.log_tail or keys.log
  end

  errors.details_of, errors.log_of, errors.minutes_of = details_of, log_of, minutes_of

  -- Fails with WRONGTYPE, before anything was written, where a key of all errors is
  -- somebody else's.
  function errors.touch(t)
    local keys = error_keys(t.prefix)
    touch('XLEN', keys.log)
    touch('ZCARD', keys.unique)
    touch('HLEN', keys.counters)
    touch('ZCARD', keys.recent)
    touch('HLEN', keys.slot .. floor(t.ms / CASCADE_SLOT_MS))
    touch('XLEN', keys.correlations)
    touch('GET', keys.announced)
    touch('XLEN', events_key(t.prefix))
  end

  -- The same for the keys of one error.
  function errors.touch_one(t, project, task, mark, is_training)
    local keys, fingerprint = error_keys(t.prefix), match(mark, '^%x+')
    if task ~= '' then touch('HLEN', details_of(keys, project, task)) end
    if is_training then touch('XLEN', log_of(keys, project, true)) end
    if fingerprint then
      touch('HLEN', keys.group .. fingerprint)
      touch('HLEN', minutes_of(keys, fingerprint, t.ms))
    end
  end

  -- The hours of a group's counts by minute, of which none is older than they are kept.
  function errors.minutes_keys(t, fingerprint)
    local keys, found = error_keys(t.prefix), {}
    for hours = 0, ERROR_MINUTES_KEPT_MS / ERROR_HOUR_MS do
      found[#found + 1] = minutes_of(keys, fingerprint, t.ms - hours * ERROR_HOUR_MS)
    end
    return found
  end

  local function settings(t)
    if not t.error_settings then
      local h = call('HMGET', t.key, 'errors', 'error_cooldown', 'error_stacks')
      t.error_settings = { tracks = h[1] ~= '0', cooldown = tonumber(h[2]) or CASCADE_COOLDOWN_MS,
        stacks = h[3] == '1' }
    end
    return t.error_settings
  end

  -- Notes an error with its mark; `e` has project, task, agent, component, message, and may
  -- have stack (JSON), attempt, training.
  function errors.note(t, e, mark)
    e.fingerprint, e.severity, e.recoverable, e.name, e.code, e.said = match(mark, MARK)
    if not e.fingerprint then return end
    if not t.errors then t.errors = {} end
    t.errors[#t.errors + 1] = e
  end

  -- Notes a task's failed attempt, as its record has it before it left its holder.
  function errors.note_task(b, id, r, mark, message)
    if mark == '' or not settings(b.t).tracks then return end
    errors.note(b.t, { project = b.name, task = id, agent = match(r[HOLDER], '^[^/]*'), component = '',
      message = message, attempt = r[ATTEMPT] }, mark)
  end

  -- The same for what the engine itself makes of it; the message needs no escapes.
  function errors.note_lost(b, id, r, word, message)
    errors.note_task(b, id, r, MARKS[word] .. '|' .. word .. '||"' .. message .. '"', message)
  end

  local function said_of(e)
    local code = e.code == '' and 'null' or '"' .. e.code .. '"'
    return '{"name":"' .. e.name .. '","message":' .. e.said .. ',"code":' .. code .. '}'
  end

  local function write_entry(t, keys, e, at, logs)
    local key = log_of(keys, e.project, e.training)
    logs[key] = e.training and TRAINING_ERRORS_KEPT_MS or ERRORS_KEPT_MS
    local fields = { 'type', e.training and 'training_failure' or 'task_failure', 'taskId', e.task,
      'projectId', e.project, 'agent', e.agent, 'error', said_of(e), 'timestamp', at,
      'severity', e.severity, 'recoverable', e.recoverable == '1' and 'true' or 'false',
      'fingerprint', e.fingerprint }
    for _, name in ipairs({ 'component', 'stack', 'attempt' }) do
      if (e[name] or '') ~= '' then
        fields[#fields + 1] = name
        fields[#fields + 1] = e[name]
      end
    end
    call('XADD', key, int(t.ms) .. '-*', unpack_values(fields))
    if e.task == '' then return end
    local details = details_of(keys, e.project, e.task)
    call('HSET', details, 'error_message', e.message, 'agent', e.agent, 'severity', e.severity,
      'error_name', e.name, 'code', e.code, 'recoverable', e.recoverable, 'project', e.project,
      'fingerprint', e.fingerprint, 'timestamp', at)
    call('HINCRBY', details, 'count', 1)
    call('PEXPIRE', details, ERRORS_KEPT_MS)
  end

  -- Errors leave their log by age, and the oldest where there are too many of them.
  local function bound_logs(t, logs)
    for key, kept in pairs(logs) do
      call('XTRIM', key, 'MINID', '=', int(t.ms - kept))
      call('XTRIM', key, 'MAXLEN', '~', ERRORS_MOST)
      call('PEXPIRE', key, kept)
    end
  end

  local function publish(t, e, at)
    local stack = ''
    if settings(t).stacks and (e.stack or '') ~= '' then stack = ',"stack":' .. e.stack end
    call('PUBLISH', retry_channel(t.prefix, e.severity), '{"type":"task_failure","agent":"' .. e.agent
      .. '","taskId":"' .. e.task .. '","error":{"name":"' .. e.name .. '","message":' .. e.said .. stack
      .. '},"timestamp":"' .. at .. '"}')
  end

  -- Counts `group.n` more errors of one fingerprint; one that was resolved is open again.
  local function write_group(t, keys, group)
    local e = group.last
    local key = group_of(keys, e)
    local state = call('HGET', key, 'state')
    group.is_new, group.is_ignored = not state, state == 'ignored'
    group.count = call('HINCRBY', key, 'count', group.n)
    call('HSET', key, 'name', e.name, 'sample', e.message, 'severity', e.severity,
      'component', e.component, 'project', e.project, 'last_seen', int(t.ms))
    if not state then
      call('HSET', key, 'first_seen', int(t.ms), 'state', 'open')
    elseif state == 'resolved' then
      call('HSET', key, 'state', 'open')
      call('HINCRBY', key, 'reopened', 1)
    end
    call('PEXPIRE', key, ERROR_GROUPS_KEPT_MS)
    call('ZADD', keys.unique, int(t.ms), e.fingerprint)
    local minutes = minutes_of(keys, e.fingerprint, t.ms)
    call('HINCRBY', minutes, int(floor(t.ms / 60000)), group.n)
    call('PEXPIRE', minutes, ERROR_MINUTES_KEPT_MS)
  end

  -- Groups leave by age, and the longest unseen where there are too many of them.
  local function bound_groups(t, keys)
    call('ZREMRANGEBYSCORE', keys.unique, '-inf', int(t.ms - ERROR_GROUPS_KEPT_MS))
    call('PEXPIRE', keys.unique, ERROR_GROUPS_KEPT_MS)
    local over = call('ZCARD', keys.unique) - ERROR_GROUPS_MOST
    if over <= 0 then return end
    local oldest = call('ZRANGE', keys.unique, 0, math.min(over, BATCH_VALUES) - 1)
    for i = 1, #oldest do
      call('UNLINK', keys.group .. oldest[i], unpack_values(errors.minutes_keys(t, oldest[i])))
    end
    call('ZREM', keys.unique, unpack_values(oldest))
  end

  local function write_counters(keys, names)
    local is_full = call('HLEN', keys.counters) >= ERROR_NAMES_MOST
    for name, n in pairs(names) do
      if is_full and call('HEXISTS', keys.counters, name) == 0 then name = 'others' end
      call('HINCRBY', keys.counters, name, n)
    end
    call('PEXPIRE', keys.counters, ERROR_GROUPS_KEPT_MS)
  end

  local function count_types(t, keys, types)
    local slot = keys.slot .. floor(t.ms / CASCADE_SLOT_MS)
    for kind, n in pairs(types) do
      call('ZADD', keys.recent, int(t.ms), kind)
      call('HINCRBY', slot, kind, n)
    end
    call('PEXPIRE', slot, CASCADE_WINDOW_MS * 2)
    call('ZREMRANGEBYSCORE', keys.recent, '-inf', int(t.ms - CASCADE_WINDOW_MS))
    call('ZREMRANGEBYRANK', keys.recent, 0, -ERROR_TYPES_MOST - 1)
    call('PEXPIRE', keys.recent, CASCADE_WINDOW_MS * 2)
  end

  -- How often these types came up in the window, to ten seconds.
  local function counts_of(t, keys, types)
    local counts, now_slot = {}, floor(t.ms / CASCADE_SLOT_MS)
    for i = 1, #types do counts[i] = 0 end
    for slot = now_slot - CASCADE_SLOTS + 1, now_slot do
      local values = redis.pcall('HMGET', keys.slot .. slot, unpack_values(types)) -- or an error, of a foreign one
      for i = 1, #types do counts[i] = counts[i] + (tonumber(values[i]) or 0) end
    end
    return counts
  end

  -- Tells once of several types of errors within the window, and then not for a while.
  local function tell_cascade(t, keys, at)
    if call('ZCARD', keys.recent) < CASCADE_TYPES then return end
    if t.ms < tonumber(call('GET', keys.announced) or '0') then return end
    local types = call('ZREVRANGE', keys.recent, 0, CASCADE_TYPES_TOLD - 1)
    table.sort(types)
    local counts, quoted, counted = counts_of(t, keys, types), {}, {}
    for i = 1, #types do
      quoted[i] = '"' .. types[i] .. '"'
      counted[i] = quoted[i] .. ':' .. counts[i]
    end
    local text = '{"type":"error_cascade_detected","severity":"critical","error_types":['
      .. concat(quoted, ',') .. '],"error_counts":{' .. concat(counted, ',')
      .. '},"recommendation":"Investigate root cause - multiple subsystems failing","timestamp":"'
      .. at .. '"}'
    local cooldown = settings(t).cooldown
    if cooldown > 0 then call('SET', keys.announced, int(t.ms + cooldown), 'PX', cooldown) end
    call('XADD', keys.correlations, 'MAXLEN', '~', CASCADES_MOST, int(t.ms) .. '-*', 'cascade', text)
    call('XTRIM', keys.correlations, 'MINID', '=', int(t.ms - ERROR_GROUPS_KEPT_MS))
    call('PEXPIRE', keys.correlations, ERROR_GROUPS_KEPT_MS)
    if t.channels then call('PUBLISH', retry_channel(t.prefix, 'correlations'), text) end
    fact(t, 'error:cascade', '', '', 'critical', '', 0, concat(types, ','))
  end

  -- Writes what was noted: log, details, groups, counters, channels, and a cascade where
  -- this makes one. Answers the groups by fingerprint: `count` by now, `is_new`.
  function errors.write(t)
    local noted, keys, at = t.errors, error_keys(t.prefix), iso(t.ms)
    local groups, names, types, logs = {}, {}, {}, {}
    t.errors = nil
    for i = 1, #noted do
      local e = noted[i]
      local group = groups[e.fingerprint] or { n = 0 }
      groups[e.fingerprint], group.n, group.last = group, group.n + 1, e
      names[e.name] = (names[e.name] or 0) + 1
      write_entry(t, keys, e, at, logs)
    end
    bound_logs(t, logs)
    for _, group in pairs(groups) do write_group(t, keys, group) end
    local is_news = false
    for i = 1, #noted do
      local e = noted[i]
      if not groups[e.fingerprint].is_ignored then
        local kind = e.component == '' and e.name or e.component .. ':' .. e.name
        types[kind] = (types[kind] or 0) + 1
        is_news = true
        if t.channels then publish(t, e, at) end
      end
    end
    bound_groups(t, keys)
    write_counters(keys, names)
    if is_news then
      count_types(t, keys, types)
      tell_cascade(t, keys, at)
    end
    return groups
  end

  -- Writes what was noted of tasks. Tracking is a side matter: an error whose keys are
  -- somebody else's is left out, all are where a key of all is, and the tasks go on.
  function errors.write_of_tasks(t)
    local noted, fitting = t.errors, {}
    t.errors = nil
    if not pcall(errors.touch, t) then return end
    for i = 1, #noted do
      local e = noted[i]
      if pcall(errors.touch_one, t, e.project, e.task, e.fingerprint) then fitting[#fitting + 1] = e end
    end
    if #fitting == 0 then return end
    t.errors = fitting
    errors.write(t)
  end
end
