-- What every function begins and ends with: the format check, the clock, the
-- fence counter, writes gathered into one command a key, and the event entries.
-- include keys

-- At load time the engine hides the libraries and `redis.call`, so the aliases are filled by
-- the first call of any function. What Lua itself offers has them too, as a global name costs
-- a look-up through two tables.
local call, match, gmatch, format, concat, floor, unpack_values
local tonumber, tostring, pairs, next

-- The fixed order of entries within one call, and so the list of all kinds of event.
local EVENT_KINDS = {
  'agent:registered', 'agent:conflict', 'agent:status', 'agent:instance_lost', 'agent:lost',
  'agent:deregistered', 'team:saved', 'team:removed', 'board:created', 'board:changed',
  'board:removed', 'run:created', 'run:phase', 'run:paused', 'run:unpaused', 'run:reopened',
  'run:told', 'run:removed', 'task:created',
  'task:completed',
  'task:started', 'task:progress', 'task:output', 'task:noted', 'task:input_required', 'task:answered',
  'task:split', 'task:released', 'task:lease_lost', 'task:retry_scheduled', 'task:failed',
  'task:cancel_requested', 'task:cancelled', 'task:revived', 'task:ready',
  'task:moved', 'task:edited', 'workstealing:request', 'task:assigned', 'task:claimed',
  'task:purged',
  'context:updated', 'agent:idle', 'agent:active', 'agent:error',
  'conflict:resource', 'conflict:task', 'conflict:context', 'conflict:voting', 'conflict:voted',
  'conflict:referred', 'conflict:undecided', 'conflict:resolved', 'conflict:removed',
  'circuitbreaker:state-change', 'circuitbreaker:changed', 'circuitbreaker:removed',
  'error:cascade', 'error:group', 'error:cleared', 'metrics:coordination',
  'message:sent', 'message:broadcast', 'message:received', 'message:acknowledged',
  'message:replied', 'message:released', 'message:expired', 'message:dead', 'message:requeued',
  'message:purged', 'inbox:changed',
  'deadlock:detected', 'resource:forced', 'resource:released', 'resource:acquired',
  'flow:changed', 'recurring:changed', 'recurring:fired',
}
local EVENT_ORDER = {}

-- What choices remember of the agents from one call to the next, by namespace; choose.lua
-- fills it. It holds while each call that wrote was one of this library in this process,
-- which the field `writer` tells, and each of those notes here whom it changed.
local remembered = { of = {}, count = 0, uses = 0, writer = nil }

-- Has what is kept under this key read again by the next call that wants it.
function remembered.touch(t, key)
  local id = t.memory and t.memory.keyed[key]
  if id then t.memory.stale[id] = true end
end

local function alias()
  tonumber, tostring, pairs, next = of_lua()
  match, gmatch, format = string.match, string.gmatch, string.format
  concat, floor, unpack_values = table.concat, math.floor, unpack
  remembered.writer = concat(redis.call('TIME'), '.')
  for i = 1, #EVENT_KINDS do EVENT_ORDER[EVENT_KINDS[i]] = i end
  call = redis.call -- last: where it is, all of them are
end

local MAJOR, MINOR = 1, 0
local BATCH_VALUES = 4000 -- `unpack` is limited to about 8,000 values
local JOURNAL_MOST = 200000 -- a run of 5,000 tasks makes some 30,000 entries

-- A whole number as text; `..` would cut one of 16 digits, and %.0f costs thrice as much.
local function int(x) return format('%d', x) end

-- The call's context: time in us (`now`) and ms (`ms`), the fence counter, and what
-- will be written. Returns nil and a refusal where the namespace cannot be used.
local function open(format_key, now_given)
  local h = call('HMGET', format_key, 'major', 'fence', 'now', 'seq', 'grace_from',
    'grace_until', 'paused', 'channels', 'interval', 'grace', 'retain',
    'gated', 'limited', 'writer')
  if not h[1] then return nil, { 'no_namespace' } end
  if tonumber(h[1]) ~= MAJOR then return nil, { 'newer_format', h[1] } end
  local now
  if now_given ~= '' then
    now = tonumber(now_given)
  else
    local time = call('TIME')
    now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  end
  local last = tonumber(h[3]) or 0
  if now < last then now = last end
  local t = {
    key = format_key, seq_text = h[4] or '0', prefix = string.sub(format_key, 1, #format_key - #FORMAT),
    now = now, ms = floor(now / 1000), fence = tonumber(h[2]) or 0, seq = tonumber(h[4]) or 0,
    grace_from = tonumber(h[5]) or 0, grace_until = tonumber(h[6]) or 0,
    paused = h[7] == '1', channels = h[8] ~= '0', interval = tonumber(h[9]) or 1000,
    grace = tonumber(h[10]) or 10000, retain = h[11] or '100000',
    gated = h[12] == '1', limited = h[13] == '1', writer = h[14],
    is_real_time = now_given == '', facts = {}, sets = {}, hashes = {}, boards = {}, bells = {},
  }
  -- Nothing ran here for more than two sweep intervals: a suspended machine, or nobody
  -- was there. Deadlines that fell into that window get one grace.
  if last > 0 and t.ms - last / 1000 > 2 * t.interval then
    t.grace_from, t.grace_until, t.graced = floor(last / 1000), t.ms + t.grace, true
  end
  local memory = remembered.of[t.prefix]
  if memory and t.writer == remembered.writer and memory.seq == t.seq and memory.fence == t.fence then
    t.memory = memory
  elseif memory then
    remembered.of[t.prefix], remembered.count = nil, remembered.count - 1
  end
  return t
end

-- Whether a deadline (ms) has passed, and has had its grace where one is due.
local function is_over(t, deadline)
  return deadline <= t.ms and (deadline < t.grace_from or t.ms >= t.grace_until)
end

-- The first of `count` consecutive fences, above all earlier ones.
local function take_fences(t, count)
  local first = t.fence + 1
  if t.now > first then first = t.now end
  t.fence = first + count - 1
  return first
end

-- Gathered writes. A later one to the same member or field wins; false removes.
local function zput(t, key, member, score)
  local members = t.sets[key]
  if not members then members = {}; t.sets[key] = members end
  members[member] = score
end

local function hput(t, key, field, value)
  local fields = t.hashes[key]
  if not fields then fields = {}; t.hashes[key] = fields end
  fields[field] = value
end

-- The lines of one entry: there is one a kind and board.
local function lines_of(t, kind, board)
  local name = kind .. ' ' .. board
  local lines = t.facts[name]
  if not lines then lines = { board = board, kind = kind }; t.facts[name] = lines end
  return lines
end

-- Adds what the entry says of one task; `extra` is a fifth column some kinds carry.
local function fact(t, kind, board, id, state, holder, fence, extra)
  local lines = lines_of(t, kind, board)
  local line = id .. '|' .. state .. '|' .. holder .. '|' .. fence
  if extra then line = line .. '|' .. extra end
  lines[#lines + 1] = line
end

local function send(command, key, values)
  local count = #values
  if count > 0 and count <= BATCH_VALUES then return call(command, key, unpack_values(values)) end
  for from = 1, count, BATCH_VALUES do
    local to = from + BATCH_VALUES - 1
    if to > count then to = count end
    call(command, key, unpack_values(values, from, to))
  end
end

local function write_sets(t)
  local sets = t.sets
  t.sets = {}
  for key, members in pairs(sets) do
    if t.memory then remembered.touch(t, key) end
    local only, its_score = next(members)
    if only and not next(members, only) then
      if its_score then call('ZADD', key, its_score, only) else call('ZREM', key, only) end
    else
      local add, remove = {}, {}
      for member, score in pairs(members) do
        if score then
          add[#add + 1] = score
          add[#add + 1] = member
        else
          remove[#remove + 1] = member
        end
      end
      if #remove > 0 then send('ZREM', key, remove) end
      if #add > 0 then send('ZADD', key, add) end
    end
  end
end

local function write_hashes(t)
  local hashes = t.hashes
  t.hashes = {}
  for key, fields in pairs(hashes) do
    if t.memory then remembered.touch(t, key) end
    local set, remove = {}, {}
    for field, value in pairs(fields) do
      if value then
        set[#set + 1] = field
        set[#set + 1] = value
      else
        remove[#remove + 1] = field
      end
    end
    if #remove > 0 then send('HDEL', key, remove) end
    if #set > 0 then send('HSET', key, set) end
  end
end

-- Appends the entries in the fixed order of kinds, numbered without a gap, each trimmed by
-- count. A board with a journal has its own there too, under the same numbers.
local function write_facts(t)
  local entries = {}
  for _, lines in pairs(t.facts) do
    if #lines > 0 then entries[#entries + 1] = lines end
  end
  if #entries > 1 then
    table.sort(entries, function(x, y)
      local first, second = EVENT_ORDER[x.kind], EVENT_ORDER[y.kind]
      return first < second or (first == second and x.board < y.board)
    end)
  end
  local stream = events_key(t.prefix)
  for i = 1, #entries do
    local lines = entries[i]
    t.seq = t.seq + 1
    t.seq_text = int(t.seq)
    local id, facts, b = t.seq_text .. '-0', concat(lines, '\n'), t.boards[lines.board]
    call('XADD', stream, 'MAXLEN', '~', t.retain, id, 'type', lines.kind,
      'board', lines.board, 'at', t.ms, 'by', t.by or '', 'facts', facts)
    if b and b.has_journal then
      call('XADD', b.keys.journal, 'MAXLEN', '~', JOURNAL_MOST, id, 'type', lines.kind,
        'board', lines.board, 'at', t.ms, 'by', t.by or '', 'facts', facts)
      t.bells[board_bell(t.prefix, b.name)] = t.seq_text
    end
    t.news = true
  end
  t.facts = {}
end

-- Writes all that was gathered, the counters, and rings the bells.
local function close(t)
  write_sets(t)
  write_hashes(t)
  write_facts(t)
  if t.graced then
    call('HSET', t.key, 'fence', int(t.fence), 'seq', t.seq_text, 'now', int(t.now),
      'grace_from', t.grace_from, 'grace_until', t.grace_until, 'writer', remembered.writer)
  elseif t.writer ~= remembered.writer then
    call('HSET', t.key, 'fence', int(t.fence), 'seq', t.seq_text, 'now', int(t.now),
      'writer', remembered.writer)
  else
    call('HSET', t.key, 'fence', int(t.fence), 'seq', t.seq_text, 'now', int(t.now))
  end
  if t.memory then t.memory.seq, t.memory.fence = t.seq, t.fence end
  for channel, payload in pairs(t.bells) do call('SPUBLISH', channel, payload) end
  if t.news then call('SPUBLISH', events_bell(t.prefix), t.seq_text) end
end

-- Counts what happens seldom and stands in no structure that it could be counted from.
local function count_in_totals(t, what)
  local key = metric_keys(t.prefix).totals
  redis.pcall('HINCRBY', key, what, 1) -- somebody else's key there stops nothing
  redis.pcall('PEXPIRE', key, 2592000000)
end

-- Fails with WRONGTYPE, before anything was written, where a key that will be written
-- is somebody else's.
local function touch(command, key) call(command, key) end

-- UTC time of ms as ISO 8601; the date by Howard Hinnant's civil_from_days.
local function iso(ms)
  local days = floor(ms / 86400000)
  local left = ms - days * 86400000
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local day = doy - floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local seconds = floor(left / 1000)
  return format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, floor(seconds / 3600),
    floor(seconds / 60) % 60, seconds % 60, left % 1000)
end
