-- Adding tasks to a board, all or nothing.
-- include outcome

local CYCLE_VISITS = 20000
local LANES_MOST = 4000
local submits = {}

local ROW = 5 -- values a task: id, body, spec, options, payload
local PAIR = 2 -- values a task where all have one spec and nothing else: id, body

-- The optional part of a row, `letter=value` lines: d dependencies, u unique key,
-- w delay ms, n not before ms, x deadline ms, s suggested agent|ms, t parent.
local NO_OPTIONS = {}

local function options_of(text)
  if text == '' then return NO_OPTIONS end
  local options = {}
  for letter, value in gmatch(text, '(%a)=([^\n]*)') do options[letter] = value end
  return options
end

local function split_ids(text)
  local ids = {}
  for id in gmatch(text, '[^,]+') do ids[#ids + 1] = id end
  return ids
end

-- Of pairs `spec` is that of all, else it is empty.
local function read_rows(rows, at, count, spec)
  local tasks = {}
  if spec ~= '' then
    for i = 1, count do
      local base = at + (i - 1) * PAIR
      tasks[i] = { id = rows[base], body = rows[base + 1], spec = spec, payload = '', options = NO_OPTIONS }
    end
    return tasks
  end
  for i = 1, count do
    local base = at + (i - 1) * ROW
    local options = options_of(rows[base + 3])
    tasks[i] = {
      id = rows[base], body = rows[base + 1], spec = rows[base + 2], payload = rows[base + 4],
      options = options, deps = options.d and split_ids(options.d) or nil,
    }
  end
  return tasks
end

-- Which rows are new; an id that is there already must have the same body.
local function sort_out(b, tasks)
  local ids, in_batch, fresh = {}, {}, {}
  for i = 1, #tasks do ids[i] = tasks[i].id end
  load_records(b, ids)
  local gone = call('HLEN', b.keys.outcomes) > 0
  for i = 1, #tasks do
    local task = tasks[i]
    local earlier = in_batch[task.id]
    if earlier then
      if earlier.body ~= task.body or earlier.payload ~= task.payload then
        return nil, { 'id_conflict', task.id }
      end
      task.exists = true
    elseif b.records[task.id] then
      if call('HGET', b.keys.tasks, task.id) ~= task.body then return nil, { 'id_conflict', task.id } end
      local is_large = has(b.records[task.id], 'L')
      if (is_large and call('GET', b.keys.payload .. task.id) or '') ~= task.payload then
        return nil, { 'id_conflict', task.id }
      end
      task.exists = true
    elseif gone and call('HEXISTS', b.keys.outcomes, task.id) == 1 then
      task.exists = true
    else
      fresh[#fresh + 1] = task
    end
    in_batch[task.id] = in_batch[task.id] or task
  end
  return fresh
end

local function unique_refusal(b, fresh)
  local keys = {}
  for i = 1, #fresh do
    local key = fresh[i].options.u
    if key then
      local holder = keys[key] or call('HGET', b.keys.unique, key)
      if holder then return { 'unique_conflict', fresh[i].id, key, holder } end
      keys[key] = fresh[i].id
    end
  end
end

local function room_refusal(b, fresh)
  local keys = b.keys
  local all = call('HLEN', keys.state)
  if all + #fresh > b.limit then
    local finished = call('ZCARD', keys.done) + call('ZCARD', keys.failed) + call('ZCARD', keys.cancelled)
    local unfinished = all - finished
    if unfinished + #fresh > b.limit then return { 'board_full', b.limit, unfinished } end
  end
  if all + #fresh <= LANES_MOST then return nil end -- no more lanes than tasks
  local lanes = call('ZCARD', keys.heads)
  if lanes + #fresh > LANES_MOST then
    local seen = {}
    for i = 1, #fresh do
      local lane = match(fresh[i].spec, '^%d*|%d*|([^|]*)|')
      if not seen[lane] then
        seen[lane] = true
        if not call('ZSCORE', keys.heads, lane) then lanes = lanes + 1 end
      end
    end
    if lanes > LANES_MOST then return { 'too_many_lanes', LANES_MOST } end
  end
end

-- Follows unmet dependencies from a new task; finding itself is a cycle, named in order.
-- Only a task that something already refers to can close one.
local function cycle_refusal(b, fresh, by_id)
  local referred, visits = {}, 0
  for i = 1, #fresh do
    local task = fresh[i]
    if task.deps and (referred[task.id] or task.is_referred
      or call('ZSCORE', b.keys.unresolved, task.id)) then
      local came_from, stack = {}, { task.id }
      while #stack > 0 do -- bounded by CYCLE_VISITS
        local id = table.remove(stack)
        local known = by_id[id]
        local needs = known and (known.deps or {}) or call('SMEMBERS', b.keys.needs .. id)
        for j = 1, #needs do
          visits = visits + 1
          if visits > CYCLE_VISITS then return { 'graph_too_large', CYCLE_VISITS } end
          if needs[j] == task.id then
            local path = { task.id, task.id }
            while id ~= task.id do -- bounded by the path found
              table.insert(path, 2, id)
              id = came_from[id]
            end
            return { 'dependency_cycle', concat(path, ',') }
          end
          if not came_from[needs[j]] then
            came_from[needs[j]] = id
            stack[#stack + 1] = needs[j]
          end
        end
      end
    end
    for j = 1, task.deps and #task.deps or 0 do referred[task.deps[j]] = true end
  end
end

-- All refusals of a submit; answers the rows that are new. Reads only. `spec` is that of
-- pairs. A task that is split is `parent`: it will depend on all of the rows.
function submits.check(b, rows, at, count, spec, parent)
  local tasks = read_rows(rows, at, count, spec or '')
  local fresh, refusal = sort_out(b, tasks)
  if refusal then return nil, nil, refusal end
  local by_id, deps = {}, {}
  for i = 1, #fresh do by_id[fresh[i].id] = fresh[i] end
  for i = 1, #fresh do
    for j = 1, fresh[i].deps and #fresh[i].deps or 0 do
      local dep = fresh[i].deps[j]
      if dep == fresh[i].id then return nil, nil, { 'dependency_cycle', dep .. ',' .. dep } end
      if not by_id[dep] then deps[#deps + 1] = dep end
    end
  end
  load_records(b, deps)
  local linked = fresh
  if parent then
    linked = { unpack_values(fresh) }
    linked[#linked + 1] = parent
    by_id[parent.id] = parent
    for i = 1, count do
      if tasks[i].id == parent.id then
        return nil, nil, { 'dependency_cycle', parent.id .. ',' .. parent.id }
      end
      parent.deps[i] = tasks[i].id
    end
  end
  refusal = b.closed and #fresh > 0 and { 'board_closed' } or unique_refusal(b, fresh) or room_refusal(b, fresh) or cycle_refusal(b, linked, by_id)
  return tasks, fresh, refusal
end

function submits.link(b, task, r)
  local t, keys, unmet, failed = b.t, b.keys, {}, {}
  for i = 1, #task.deps do
    local dep = task.deps[i]
    local status, dep_record = outcome_of(b, dep)
    if dep_record or not status then
      call('ZADD', keys.dependents .. dep, 'NX', int(t.now + i), task.id)
    end
    if dep_record and not has(dep_record, 'D') then
      flag(dep_record, 'D')
      save(b, dep)
    end
    if status ~= 'd' then
      unmet[#unmet + 1] = dep
      if status == 'f' or status == 'x' then failed[#failed + 1] = { dep, status } end
      if not status then
        await_unknown(b, dep)
        b.awaiting = b.awaiting or {}
        b.awaiting[dep] = true
      end
    end
  end
  flag(r, 'N')
  if #unmet > 0 then send('SADD', keys.needs .. task.id, unmet) end
  return #unmet > 0, failed
end

local function remember_options(b, task, r)
  local options = task.options
  if options.u then
    hput(b.t, b.keys.unique, options.u, task.id)
    remember(b, task.id, r, 'unique', options.u)
    flag(r, 'U')
  end
  if options.x then
    zput(b.t, b.keys.deadlines, task.id, options.x)
    remember(b, task.id, r, 'deadline', options.x)
    flag(r, 'X')
  end
  if options.s then
    remember(b, task.id, r, 'suggested', options.s)
    flag(r, 'H')
  end
  if options.a then remember(b, task.id, r, 'affinity', options.a) end
  if options.t then remember(b, task.id, r, 'parent', options.t) end
  if task.payload ~= '' then
    call('SET', b.keys.payload .. task.id, task.payload)
    flag(r, 'L')
  end
end

-- Where a new task goes: it waits for others, for its time, or is ready.
local function place_new(b, task, r, index, is_blocked)
  local t, options = b.t, task.options
  local not_before = options.n and tonumber(options.n) or (options.w and t.ms + tonumber(options.w))
  if not_before and not_before > t.ms then
    r[SCORE] = int(not_before * 1000 + index - tonumber(r[PRIORITY]) * b.step)
  end
  if is_blocked then
    r[STATUS] = 'b'
    zput(t, b.keys.blocked, task.id, t.ms)
    if r[SCORE] ~= '' then
      remember(b, task.id, r, 'not_before', tostring(not_before))
      flag(r, 'B')
    end
  elseif r[SCORE] ~= '' then
    r[STATUS] = 's'
    zput(t, b.keys.scheduled, task.id, not_before)
  else
    r[SCORE] = int(t.now + index - tonumber(r[PRIORITY]) * b.step)
    if options.s then
      local agent, for_ms = match(options.s, '^([^|]*)|(%d+)$')
      offer_to(b, task.id, r, agent, tonumber(for_ms))
    else
      offer(b, task.id, r)
    end
  end
end

-- Plain tasks reach few keys; options, and tasks that others wait for, may reach any.
function submits.touch(b, fresh)
  b.is_awaited = call('ZCARD', b.keys.unresolved) > 0
  local is_special = b.is_awaited
  for i = 1, #fresh do
    is_special = is_special or fresh[i].options ~= NO_OPTIONS or fresh[i].payload ~= ''
    if string.find(fresh[i].spec, ',', 1, true) then -- perhaps a task with keys
      flow.touch(b, match(fresh[i].spec, '^%d*|%d*|([^|]*)|'))
    end
  end
  if is_special then return touch_board(b) end
  touch_usual(b)
  touch('HLEN', b.keys.tasks)
end

-- A task with options, or one that others wait for: the general way.
local function write_special(b, task, index, awaited, born_failed)
  local t = b.t
  local lease, timeout, lane, priority, flags, retry =
    match(task.spec, '^(%d*)|(%d*)|([^|]*)|(%-?%d+)|(%a*)|([^|]*)$')
  local r = { 'p', '0', '0', '', '', '', lease, timeout, lane, priority, '0', '0', '', flags, retry,
    tostring(t.ms), '' }
  b.records[task.id] = r
  if b.awaiting and b.awaiting[task.id] or awaited and call('ZSCORE', b.keys.unresolved, task.id) then
    zput(t, b.keys.unresolved, task.id, false)
    flag(r, 'D')
  end
  local is_blocked, failed = false, nil
  if next(task.options) or task.payload ~= '' then remember_options(b, task, r) end
  if task.deps then is_blocked, failed = submits.link(b, task, r) end
  if is_blocked and failed and #failed > 0 then born_failed[#born_failed + 1] = { task.id, failed } end
  place_new(b, task, r, index, is_blocked)
  hput(t, b.keys.tasks, task.id, task.body)
  save(b, task.id)
  fact(t, 'task:created', b.name, task.id, WORDS[r[STATUS]], r[HOLDER], 0)
end

-- A spec without time limits, flags or retry policy: lane and priority.
local PLAIN_SPEC = '^||([^|]*)|(%-?%d+)||$'

-- Tasks without options that nobody waits for, written as text: most are. Each list is what
-- one command takes.
local function plain_batch() return { count = 0, ids = {}, states = {}, bodies = {}, lanes = {}, specs = {} } end

-- What all plain tasks of this spec have in common; false where the spec is not plain.
local function plain_spec(b, plain, spec)
  local common = plain.specs[spec]
  if common ~= nil then return common end
  common = false
  local lane, priority = match(spec, PLAIN_SPEC)
  if lane then
    local scores = plain.lanes[lane] or {}
    plain.lanes[lane] = scores
    common = {
      lane = lane, scores = scores, base = b.t.now - priority * b.step,
      record = 'p|0|0||||||' .. lane .. '|' .. priority .. '|0|0||||' .. b.t.ms,
    }
  end
  plain.specs[spec] = common
  return common
end

local function add_plain(plain, id, body, common, index)
  local count, scores, states, bodies = plain.count + 1, common.scores, plain.states, plain.bodies
  local n = count * 2
  plain.count, plain.ids[count] = count, id
  states[n - 1], states[n] = id, common.record
  bodies[n - 1], bodies[n] = id, body
  n = #scores
  scores[n + 1], scores[n + 2] = common.base + index, id
end

local CREATED_PENDING = '|pending||0'

local function send_plain(b, plain)
  if plain.count == 0 then return end
  send('HSET', b.keys.state, plain.states)
  send('HSET', b.keys.tasks, plain.bodies)
  for lane, scores in pairs(plain.lanes) do
    if #scores > 0 then
      send('ZADD', b.keys.lane .. lane, scores)
      b.lanes[lane], b.has_news = true, b.has_news or not chooser.is_unserved(b.t, lane)
    end
  end
  local lines = lines_of(b.t, 'task:created', b.name)
  lines[#lines + 1] = concat(plain.ids, CREATED_PENDING .. '\n') .. CREATED_PENDING
end

-- Whether a hash has a field of any of these names.
local function has_any(key, names, count)
  for from = 1, count, BATCH_VALUES do
    local to = from + BATCH_VALUES - 1
    if to > count then to = count end
    local found = call('HMGET', key, unpack_values(names, from, to))
    for i = 1, #found do if found[i] then return true end end
  end
  return false
end

-- Whether a new task without options may simply be put into its lane.
local function goes_plainly(b) return not b.strategy and #waiters_of(b) == 0 end

-- The rows where they are all plain; nil where one is not, or stands there twice.
local function plain_rows(b, rows, at, count, spec)
  local plain, seen = plain_batch(), {}
  local all = spec ~= '' and plain_spec(b, plain, spec)
  if spec ~= '' and not all then return nil end
  local width = all and PAIR or ROW
  for i = 1, count do
    local base = at + (i - 1) * width
    local id, common = rows[base], all
    if not common then
      common = plain_spec(b, plain, rows[base + 2])
      if not common or rows[base + 3] ~= '' or rows[base + 4] ~= '' then return nil end
    end
    if seen[id] then return nil end
    seen[id] = true
    add_plain(plain, id, rows[base + 1], common, i)
  end
  return plain
end

-- Rows that are all new and all plain, ready to be written, their keys touched; nil where
-- one is not, or something is to be refused: then the general way says what. A row costs
-- half as much this way, as nothing is kept of it but what is written.
function submits.plain(b, rows, at, count, spec)
  local plain, keys = plain_rows(b, rows, at, count, spec), b.keys
  if not plain then return nil end
  local ids = plain.ids
  if b.closed or not goes_plainly(b) or call('ZCARD', keys.unresolved) > 0 then return nil end
  if has_any(keys.state, ids, count) then return nil end
  if call('HLEN', keys.outcomes) > 0 and has_any(keys.outcomes, ids, count) then return nil end
  local all = call('HLEN', keys.state) + count
  if all > b.limit or all > LANES_MOST and call('ZCARD', keys.heads) + count > LANES_MOST then return nil end
  for spec, common in pairs(plain.specs) do
    if string.find(spec, ',', 1, true) then flow.touch(b, common.lane) end
  end
  touch_usual(b)
  touch('HLEN', keys.tasks)
  return plain
end

local function begin_board(b)
  wake_board(b)
  if not b.is_new then return end
  call('HSET', b.keys.board, 'step', b.step, 'created', b.t.ms)
  call('ZADD', boards_key(b.t.prefix), 'NX', b.t.ms, b.name)
  fact(b.t, 'board:created', b.name, '', 'active', '', 0)
  b.is_new = false
end

-- Writes what `submits.plain` made ready.
function submits.write_plain(b, plain)
  begin_board(b)
  send_plain(b, plain)
end

-- Writes the new tasks; it answers nothing, since all refusals were made before.
function submits.write(b, fresh)
  begin_board(b)
  local awaited = b.is_awaited
  if awaited == nil then awaited = call('ZCARD', b.keys.unresolved) > 0 end
  local is_plain = not awaited and goes_plainly(b)
  local born_failed, plain = {}, plain_batch()
  for i = 1, #fresh do
    local task, common = fresh[i], false
    if is_plain and task.options == NO_OPTIONS and task.payload == '' then
      common = plain_spec(b, plain, task.spec)
    end
    if common then
      add_plain(plain, task.id, task.body, common, i)
      b.records[task.id] = nil
    else
      send_plain(b, plain) -- it may depend on them
      plain = plain_batch()
      write_special(b, task, i, awaited, born_failed)
      if b.awaiting then is_plain = false end
    end
  end
  send_plain(b, plain)
  for i = 1, #born_failed do
    local id, failed = born_failed[i][1], born_failed[i][2]
    for j = 1, #failed do dependency_failed(b, failed[j][1], failed[j][2], id, b.records[id]) end
  end
end
