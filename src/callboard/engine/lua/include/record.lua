-- A task's moving state: one line of seventeen fields in `tasks:{board}:state`.
--
--   status|attempt|fence|holder|score|since|lease|timeout|lane|priority|failures|
--   crashes|crashed|flags|retry|created|tail of a newer release, kept as it is
--
-- status: p pending, b blocked, s scheduled, a assigned, c claimed, k claimed ahead of
-- its start, i in_progress, q input_required, d done, f failed, x cancelled.
-- holder: agent/instance, or agent alone where reserved. score: us of order, while the
-- task is not in its lane; once done, ms that the accepted attempt took. since: ms of the last change of status. crashed: the distinct
-- instances that were lost while they had it. flags: D others depend on it, N it depends
-- on others, U unique key, L large payload, C cancel asked for, X deadline, E extra hash,
-- A attempt log, M notes, S skip or G go on where a dependency failed, Z lost once before
-- it was started, V taken from its holder, who is not to think that it gave it back, W parked,
-- H suggested worker, P reserved for one that is preferred, R handed over to its agent, B not before a time, once unblocked,
-- O its claim holds permits of breakers, Q its claim occupies a slot of its concurrency key,
-- K its claim holds locks, or waits as an owner of locks does.
-- include open

local STATUS, ATTEMPT, FENCE, HOLDER, SCORE, SINCE, LEASE, TIMEOUT = 1, 2, 3, 4, 5, 6, 7, 8
local LANE, PRIORITY, FAILURES, CRASHES, CRASHED, FLAGS, RETRY, CREATED = 9, 10, 11, 12, 13, 14, 15, 16

local RECORD = '^(%a)|(%d+)|(%d+)|([^|]*)|(%-?%d*)|(%d*)|(%d*)|(%d*)|([^|]*)|(%-?%d+)|(%d+)|(%d+)|'
  .. '([^|]*)|(%a*)|([^|]*)|(%d*)(.*)$'

local FINISHED = { d = true, f = true, x = true }
local HELD = { c = true, k = true, i = true }
local WORDS = {
  p = 'pending', b = 'blocked', s = 'scheduled', a = 'assigned', c = 'claimed', k = 'claimed',
  i = 'in_progress', q = 'input_required', d = 'done', f = 'failed', x = 'cancelled',
}

local function parse(raw)
  local record = { match(raw, RECORD) }
  if not record[1] then error('callboard: unreadable task record: ' .. raw) end
  return record
end

local function has(record, flag) return string.find(record[FLAGS], flag, 1, true) ~= nil end

local function flag(record, letter)
  if not has(record, letter) then record[FLAGS] = record[FLAGS] .. letter end
end

local function unflag(record, letter) record[FLAGS] = string.gsub(record[FLAGS], letter, '') end

-- A board within one call: its keys, its settings, the records read so far.
local function board(t, name)
  local b = t.boards[name]
  if b then return b end
  local keys = board_keys(t.prefix, name)
  -- Few fields are set, so that to read all costs less than to ask for each.
  local set, fields = {}, call('HGETALL', keys.board)
  for i = 1, #fields, 2 do set[fields[i]] = fields[i + 1] end
  local is_closed = set.closed == '1'
  b = {
    t = t, name = name, keys = keys, records = {}, lanes = {},
    step = tonumber(set.step) or 60000000, is_new = not set.step,
    paused = set.paused == '1' or t.paused or is_closed, closed = is_closed, has_journal = set.journal == '1',
    paused_kinds = set.paused_kinds or '', limit = tonumber(set.limit) or 1000000,
    poison = tonumber(set.poison) or 3, crashes = tonumber(set.crashes) or 5,
    is_idle = set.idle == '1', held = 0, reserved = 0,
    is_fair = set.fair == '1', virtual = tonumber(set.virtual) or 0, has_aside = set.aside == '1',
    strategy = set.strategy ~= 'best_idle' and set.strategy or nil,
    dispatched = tonumber(set.dispatched or '0'), given = 0, timed = 0, waited = 0, returned = 0,
  }
  t.boards[name] = b
  if set.concurrency or set.claims_most then -- counted here, before any change, and kept up by each
    b.is_limited, b.concurrency, b.claims_most = true, tonumber(set.concurrency), tonumber(set.claims_most)
    b.held = call('ZCARD', keys.leases) - call('ZCARD', keys.parked)
    b.reserved = call('ZCARD', keys.reserved)
    b.claims = b.claims_most and tonumber(set.claims or '0')
  end
  return b
end

-- How many tasks more may be claimed, and which of the board's limits says so. Parked tasks
-- leave their room to others; one that goes on takes it again, wherever that leads.
local function room_of(b)
  local room, limit = math.huge, ''
  if b.concurrency then room, limit = b.concurrency - b.held, 'concurrency' end
  if b.claims_most and b.claims_most - b.claims < room then
    room, limit = b.claims_most - b.claims, 'claims_most'
  end
  return room, limit
end

-- Fails with WRONGTYPE, before anything was written, where the board's events go is somebody
-- else's.
local function touch_events(b)
  touch('XLEN', events_key(b.t.prefix))
  if b.has_journal then touch('XLEN', b.keys.journal) end
end

-- The records of these ids, read once a call; false where there is none.
local function load_records(b, ids)
  local missing = {}
  for i = 1, #ids do
    if b.records[ids[i]] == nil then
      missing[#missing + 1] = ids[i]
      b.records[ids[i]] = false
    end
  end
  for from = 1, #missing, BATCH_VALUES do
    local to = from + BATCH_VALUES - 1
    if to > #missing then to = #missing end
    local raws = call('HMGET', b.keys.state, unpack_values(missing, from, to))
    for i = from, to do
      local raw = raws[i - from + 1]
      if raw then b.records[missing[i]] = parse(raw) end
    end
  end
end

local function load_record(b, id)
  local record = b.records[id]
  if record == nil then
    local raw = call('HGET', b.keys.state, id)
    record = raw and parse(raw) or false
    b.records[id] = record
  end
  return record
end

local function save(b, id)
  hput(b.t, b.keys.state, id, concat(b.records[id], '|', 1, 16) .. (b.records[id][17] or ''))
end

local function agent_of(record) return match(record[HOLDER], '^([^/]*)') end
