-- Messages: the inbox of each agent, the moving state of what lies in it, and its moves.
-- include fit

-- A message is a hash `message:{id}`: its body, when it was sent (`at`, ms), its `thread`, and
-- a field `>{agent}` for each inbox that still has it. Where it stands in an inbox is a line
-- in `inbox:{agent}:state`:
--
--   letter|score|deliveries|fence|since|expires|most|marks|sender|taker
--
-- Letters: p waiting, w delayed, d taken, r read, x expired, f dead. Marks: m other inboxes
-- have it too, t it is in a thread's index, q it is a request. The same hash keeps, under
-- names that no message has, `#seq` (the last place given), `#gone` (ms since when nobody of
-- this name is registered), `#limit` and `#wind` (how far a gone inbox was looked through).
local MSG_LETTER, MSG_SCORE, MSG_COUNT, MSG_FENCE, MSG_SINCE = 1, 2, 3, 4, 5
local MSG_EXPIRES, MSG_MOST, MSG_MARKS, MSG_SENDER, MSG_TAKER = 6, 7, 8, 9, 10

local MSG_PRIORITY_STEP = 2199023255552 -- 2^41 places a priority; with 2,001 of them below 2^53
local MSG_PRIORITY_TOP = 1000
local MSG_LIMIT = 10000 -- unfinished messages an inbox holds where nothing else was set
local MSG_FINISHED_MOST = 10000 -- read and expired ones kept for the history of one inbox
local MSG_DEAD_MOST = 10000
local MSG_FINISHED_MS = 86400000
local MSG_DEAD_MS = 2592000000
local MSG_GONE_MS = 86400000 -- an inbox whose agent is not registered keeps messages so long
local MSG_VISIT_MS = 3600000 -- every inbox is looked at so often
local MSG_RECIPIENTS_MOST = 1000
local MSG_BYTES_MOST = 4194304 -- of one reply
local MSG_LINES_MOST = 5000 -- inboxes that one reply tells of
local MSG_PUT_MOST = 2000 -- inboxes that a call looks at before its last message: 0.1 s
local MSG_ROSTER_MOST = 10000
local MSG_BROADCASTS_MOST = 10000
local MSG_BROADCAST_MS = 604800000
local MSG_REQUEST_MS = 600000
local MSG_AGAIN_MOST = 5000 -- messages taken until the same ms that a repeat is looked for among
local MSG_HEARD_MOST = 5 -- times one broadcast is given out before it is passed over

local messages = {
  state = '^(%a)|(%d+)|(%d+)|(%d+)|(%d+)|(%d*)|(%d+)|(%a*)|([^|]*)|(.*)$',
  waiting = '^p|(%d+)|(%d+)|%d+|%d+|(%d*)|(%d+)|(%a*)|([^|]*)|', -- what a taker needs
  taken = '^d|(%d+|%d+|)(%d+)|%d+|(|.*)$', -- of a taken one that does not expire
  plain = '^[rx]|%d+|%d+|%d+|%d+||%d+||([^|]*)|', -- of a finished one without marks or expiry
}

function messages.parse(line)
  local m = { match(line, messages.state) }
  return m[1] and m or nil
end

-- Makes room for what a call gathers; again does nothing.
function messages.begin(t)
  if t.boxes then return end
  t.boxes, t.added, t.removed, t.stored, t.drops = {}, {}, {}, {}, {}
end

-- The inbox of an agent, read once a call. Fails with WRONGTYPE where one of its keys, or of
-- those that every change reaches, is somebody else's.
function messages.box(t, agent)
  messages.begin(t)
  local box = t.boxes[agent]
  if box then return box end
  local keys = message_keys(t.prefix, agent)
  local h = call('HMGET', keys.state, '#seq', '#gone', '#limit', '#wind')
  -- The first is always missing, so that this looks at the type of each and at no member.
  call('ZINTERCARD', 10, keys.waiting .. ':', keys.waiting, keys.leases, keys.delayed,
    keys.expiry, keys.finished, keys.dead, keys.received, keys.all, keys.sent)
  box = {
    name = agent, keys = keys, seq = tonumber(h[1]) or 0, gone = tonumber(h[2]),
    limit = tonumber(h[3]) or MSG_LIMIT, wind = tonumber(h[4]) or 0, is_new = not h[1],
    states = {},
  }
  t.boxes[agent] = box
  return box
end

-- The states of these messages in an inbox, which are read in one go.
function messages.load(box, ids)
  local unread = {}
  for i = 1, #ids do
    if box.states[ids[i]] == nil then unread[#unread + 1] = ids[i] end
  end
  if #unread == 0 then return end
  local lines = call('HMGET', box.keys.state, unpack_values(unread))
  for i = 1, #unread do box.states[unread[i]] = lines[i] and messages.parse(lines[i]) or false end
end

-- Gathered writes as lists, which cost half of what `zput` does: within what is written at
-- once a member of a key is only added or only removed.
function messages.list(lists, key)
  local list = lists[key]
  if not list then list = {}; lists[key] = list end
  return list
end

function messages.add(t, key, id, score)
  local list = messages.list(t.added, key)
  local n = #list
  list[n + 1], list[n + 2] = score, id
end

function messages.remove(t, key, id)
  local list = messages.list(t.removed, key)
  list[#list + 1] = id
end

function messages.store(t, box, id, line)
  local list = messages.list(t.stored, box.keys.state)
  local n = #list
  list[n + 1], list[n + 2] = id, line
end

function messages.save(t, box, id, m)
  box.states[id] = m
  messages.store(t, box, id, concat(m, '|'))
end

function messages.has(m, mark) return string.find(m[MSG_MARKS], mark, 1, true) ~= nil end

-- What a call was given under these fences until then, as far as it is held so still, in the
-- order in which it was given.
function messages.taken_again(box, first, count, until_ms)
  local keys, held = box.keys, {}
  local ids = call('ZRANGEBYSCORE', keys.leases, until_ms, until_ms, 'LIMIT', 0, MSG_AGAIN_MOST)
  messages.load(box, ids)
  for i = 1, #ids do
    local m = box.states[ids[i]]
    if m and m[MSG_LETTER] == 'd' then held[tonumber(m[MSG_FENCE])] = ids[i] end
  end
  local found = {}
  for fence = tonumber(first), first + count - 1 do
    local id = held[fence]
    local h = id and call('HMGET', keys.message .. id, 'body', 'at', 'thread')
    if h and h[1] then
      local m, n = box.states[id], #found
      found[n + 1], found[n + 3] = id, h[1]
      found[n + 2] = m[MSG_FENCE] .. '|' .. m[MSG_COUNT] .. '|' .. h[2] .. '|' .. m[MSG_EXPIRES] .. '|'
        .. m[MSG_MARKS] .. '|' .. (h[3] or '') .. '|' .. m[MSG_MOST]
    end
  end
  return found
end

-- How many messages of an inbox are not finished.
function messages.unfinished(box)
  local keys = box.keys
  return call('ZCARD', keys.waiting) + call('ZCARD', keys.delayed) + call('ZCARD', keys.leases)
end

-- Notes that a sweep has to look at the inbox at this time (ms), if not before.
function messages.due(box, at)
  if not box.due or at < box.due then box.due = at end
end

-- Takes a message out of an index; somebody else's value under that name is passed over.
function messages.drop(t, key, id)
  messages.begin(t)
  local ids = messages.list(t.drops, key)
  ids[#ids + 1] = id
end

-- What the engine holds is what was gathered so far: before it is read by place again.
function messages.flush(t)
  messages.begin(t)
  for key, ids in pairs(t.removed) do send('ZREM', key, ids) end
  for key, list in pairs(t.added) do send('ZADD', key, list) end
  for key, list in pairs(t.stored) do send('HSET', key, list) end
  t.removed, t.added, t.stored = {}, {}, {}
  write_sets(t)
  write_hashes(t)
end

-- Writes all that was gathered: what `close` does, and when each inbox is looked at next.
function messages.finish(t)
  messages.flush(t)
  for key, ids in pairs(t.drops) do
    for from = 1, #ids, BATCH_VALUES do
      redis.pcall('ZREM', key, unpack_values(ids, from, math.min(#ids, from + BATCH_VALUES - 1)))
    end
  end
  for _, box in pairs(t.boxes) do
    if box.seq_changed then hput(t, box.keys.state, '#seq', int(box.seq)) end
    -- Nobody knows yet whether the name is registered; the next sweep will.
    if box.is_new and (box.seq_changed or box.is_used) then
      messages.due(box, t.ms + 1000)
      if not box.gone then hput(t, box.keys.state, '#gone', t.ms) end
    end
    if box.due then call('ZADD', box.keys.all, 'LT', box.due, box.name) end
  end
  close(t)
end

-- Somebody takes or subscribes under this name: it is in use, registered or not.
function messages.use(t, box)
  box.is_used = true
  if box.gone then
    box.gone = t.ms
    hput(t, box.keys.state, '#gone', t.ms)
  end
end

-- Moves. Each takes the message out of the set of its letter and puts it into another.

function messages.leave(t, box, id, m)
  local keys, letter = box.keys, m[MSG_LETTER]
  if letter == 'p' then
    messages.remove(t, keys.waiting, id)
  elseif letter == 'd' then
    messages.remove(t, keys.leases, id)
  elseif letter == 'w' then
    messages.remove(t, keys.delayed, id)
  elseif letter == 'f' then
    messages.remove(t, keys.dead, id)
  end
end

function messages.wait(t, box, id, m)
  messages.leave(t, box, id, m)
  m[MSG_LETTER], m[MSG_SINCE], m[MSG_TAKER] = 'p', int(t.ms), ''
  messages.add(t, box.keys.waiting, id, m[MSG_SCORE])
  t.bells[box.keys.bell] = ''
  messages.save(t, box, id, m)
end

function messages.delay(t, box, id, m, until_ms)
  messages.leave(t, box, id, m)
  m[MSG_LETTER], m[MSG_SINCE], m[MSG_TAKER] = 'w', int(t.ms), ''
  messages.add(t, box.keys.delayed, id, until_ms)
  messages.due(box, until_ms)
  messages.save(t, box, id, m)
end

-- Ends it as read (r) or expired (x); it stays for the history until it is retired.
function messages.finished(t, box, id, m, letter)
  messages.leave(t, box, id, m)
  m[MSG_LETTER], m[MSG_SINCE] = letter, int(t.ms)
  messages.add(t, box.keys.finished, id, t.ms)
  if m[MSG_EXPIRES] ~= '' then messages.remove(t, box.keys.expiry, id) end
  messages.save(t, box, id, m)
end

function messages.expire(t, box, id, m)
  messages.finished(t, box, id, m, 'x')
  fact(t, 'message:expired', '', id, 'expired', box.name, 0, m[MSG_SENDER])
end

function messages.bury(t, box, id, m, reason)
  messages.leave(t, box, id, m)
  m[MSG_LETTER], m[MSG_SINCE] = 'f', int(t.ms)
  messages.add(t, box.keys.dead, id, t.ms)
  if m[MSG_EXPIRES] ~= '' then messages.remove(t, box.keys.expiry, id) end
  messages.due(box, t.ms + MSG_VISIT_MS)
  messages.save(t, box, id, m)
  fact(t, 'message:dead', '', id, 'dead', box.name, m[MSG_FENCE], reason)
end

-- Whether a message may be ended by who presents this fence, '0' for none; in a word.
function messages.may_end(m, fence)
  if not m then return 'message_not_found' end
  local letter, is_same = m[MSG_LETTER], m[MSG_FENCE] == fence
  if letter == 'd' then
    if fence == '0' then return 'held' end
    return is_same and 'ok' or 'lease_lost'
  elseif letter == 'r' then
    return (fence == '0' or is_same) and 'replayed' or 'lease_lost'
  elseif fence ~= '0' then
    return 'lease_lost'
  end
  return (letter == 'p' or letter == 'w') and 'ok' or 'illegal_state'
end

function messages.is_expired(t, m)
  return m[MSG_EXPIRES] ~= '' and tonumber(m[MSG_EXPIRES]) <= t.ms
end

-- A taken message that comes back: dead after its last delivery, expired, or offered again,
-- now or after a while. Answers the word for it.
function messages.back(t, box, id, m, delay_ms, reason)
  if tonumber(m[MSG_COUNT]) >= tonumber(m[MSG_MOST]) then
    messages.bury(t, box, id, m, reason)
    return 'dead'
  end
  if messages.is_expired(t, m) then
    messages.expire(t, box, id, m)
    return 'expired'
  end
  if delay_ms > 0 then
    messages.delay(t, box, id, m, t.ms + delay_ms)
  else
    messages.wait(t, box, id, m)
  end
  fact(t, 'message:released', '', id, m[MSG_LETTER] == 'p' and 'pending' or 'delayed', box.name,
    m[MSG_FENCE], reason)
  return 'ok'
end

-- Brings an inbox up to the present, at most `most` messages of each sort: expired ones end,
-- overdue ones come back, delayed ones are due. Answers whether anything changed.
function messages.refresh(t, box, most)
  local keys, changed = box.keys, false
  local function due(key) return call('ZRANGEBYSCORE', key, '-inf', t.ms, 'LIMIT', 0, most) end
  local late, taken, delayed = due(keys.expiry), due(keys.leases), due(keys.delayed)
  if #late + #taken + #delayed == 0 then return false end
  local ids = {}
  for _, list in ipairs({ late, taken, delayed }) do
    for i = 1, #list do ids[#ids + 1] = list[i] end
  end
  messages.load(box, ids)
  for i = 1, #late do
    local m = box.states[late[i]]
    if not m then
      messages.remove(t, keys.expiry, late[i])
    elseif m[MSG_LETTER] == 'p' or m[MSG_LETTER] == 'w' then
      messages.expire(t, box, late[i], m)
      changed = true
    elseif m[MSG_LETTER] == 'd' then -- who holds it may finish; it ends when it comes back
      messages.remove(t, keys.expiry, late[i])
      changed = true
    end
  end
  for i = 1, #taken do
    local m = box.states[taken[i]]
    if not m then
      messages.remove(t, keys.leases, taken[i])
    elseif m[MSG_LETTER] == 'd' and is_over(t, tonumber(call('ZSCORE', keys.leases, taken[i]))) then
      messages.back(t, box, taken[i], m, 0, 'lease_lost')
      changed = true
    end
  end
  for i = 1, #delayed do
    local m = box.states[delayed[i]]
    if not m then
      messages.remove(t, keys.delayed, delayed[i])
    elseif m[MSG_LETTER] == 'w' then
      messages.wait(t, box, delayed[i], m)
      changed = true
    end
  end
  return changed
end

-- Removes all traces of these messages from an inbox, and the messages themselves where no
-- other inbox has them.
function messages.retire(t, box, ids)
  local keys, gone, cut = box.keys, {}, {}
  if #ids == 0 then return end
  local lines = call('HMGET', keys.state, unpack_values(ids))
  for i = 1, #ids do
    local id, line = ids[i], lines[i]
    -- Of a finished message that lies nowhere else and has no thread all is known here.
    local sender = line and match(line, messages.plain)
    local m = line and not sender and messages.parse(line)
    local is_last = true
    if sender then messages.forget(t, keys, id, sender, false, gone) end
    if m and messages.has(m, 'm') then
      call('HDEL', keys.message .. id, '>' .. box.name)
      local left = call('HKEYS', keys.message .. id)
      for n = 1, #left do
        if string.sub(left[n], 1, 1) == '>' then
          is_last = false
          break
        end
      end
    end
    if m then
      messages.leave(t, box, id, m)
      if m[MSG_EXPIRES] ~= '' then messages.remove(t, keys.expiry, id) end
      if is_last then
        messages.forget(t, keys, id, m[MSG_SENDER],
          messages.has(m, 't') or messages.has(m, 'q'), gone)
      end
    end
    messages.remove(t, keys.finished, id)
    if m then messages.remove(t, keys.dead, id) end
    messages.remove(t, keys.received, id)
    cut[i] = id
    box.states[id] = false
  end
  send('HDEL', keys.state, cut)
  for from = 1, #gone, BATCH_VALUES do
    call('UNLINK', unpack_values(gone, from, math.min(#gone, from + BATCH_VALUES - 1)))
  end
end

-- Takes a message out of the indexes, with the reply that it may have; adds the keys that
-- are to be removed to `gone`.
function messages.forget(t, keys, id, sender, has_more, gone)
  gone[#gone + 1] = keys.message .. id
  messages.drop(t, keys.sent, id)
  if sender ~= '' then messages.drop(t, keys.by_sender .. sender, id) end
  if not has_more then return end
  local h = call('HMGET', keys.message .. id, 'thread', 'reply')
  if h[1] then messages.drop(t, keys.thread .. h[1], id) end
  if not h[2] then return end
  local reply = call('HMGET', keys.message .. h[2], 'thread', 'sender')
  gone[#gone + 1] = keys.message .. h[2]
  messages.drop(t, keys.sent, h[2])
  if reply[1] then messages.drop(t, keys.thread .. reply[1], h[2]) end
  if reply[2] then messages.drop(t, keys.by_sender .. reply[2], h[2]) end
  if sender ~= '' then
    messages.drop(t, message_keys(t.prefix, sender).received, h[2])
  end
end

-- Retires what is older than its time or too much of its sort, at most `most` messages.
-- Answers whether there may be more.
function messages.retire_old(t, box, most)
  local keys, more = box.keys, false
  local function old(key, age_ms, count_most)
    local ids = call('ZRANGEBYSCORE', key, '-inf', t.ms - age_ms, 'LIMIT', 0, most)
    local over = call('ZCARD', key) - count_most
    if over > #ids then ids = call('ZRANGE', key, 0, math.min(over, most) - 1) end
    if #ids > 0 then messages.retire(t, box, ids) end
    if #ids >= most then more = true end
  end
  old(keys.finished, MSG_FINISHED_MS, MSG_FINISHED_MOST)
  old(keys.dead, MSG_DEAD_MS, MSG_DEAD_MOST)
  return more
end

-- Keeps the number of finished messages within its bound after `ended` more came to it.
function messages.trim(t, box, ended)
  local over = call('ZCARD', box.keys.finished) + ended - MSG_FINISHED_MOST
  if over <= 0 then return end
  messages.flush(t)
  messages.retire(t, box, call('ZRANGE', box.keys.finished, 0, math.min(over, ended + 100) - 1))
end

-- The agents that are registered and have all of what a lane asks for, but for one; nil
-- where there are too many for one message.
function messages.matching(t, lane, except)
  t.matched = t.matched or {}
  local found = t.matched[lane]
  if not found then
    found = {}
    local ids = call('ZRANGE', agents_known_key(t.prefix), 0, MSG_ROSTER_MOST - 1)
    t.roster_read = (t.roster_read or 0) + #ids
    for i = 1, #ids do
      local h = call('HMGET', agent_key(t.prefix, ids[i]), 'profile', 'gone')
      if h[1] and h[2] ~= 'deregistered' and fits(h[1], lane) then found[#found + 1] = ids[i] end
    end
    t.matched[lane] = found
  end
  return messages.without(found, except)
end

function messages.without(names, except)
  local found = {}
  for i = 1, #names do
    if names[i] ~= except then found[#found + 1] = names[i] end
  end
  if #found > MSG_RECIPIENTS_MOST then return nil end
  return found
end

-- The subscribers of a topic that want messages of this type, but for the sender.
function messages.subscribers(t, topic, kind, sender)
  local flat, found = call('HGETALL', message_keys(t.prefix, '').topic .. topic), {}
  for i = 1, #flat, 2 do
    local types = match(flat[i + 1], '|(.*)$') or ''
    local wants = types == '' or string.find(',' .. types .. ',', ',' .. kind .. ',', 1, true)
    if wants and flat[i] ~= sender then found[#found + 1] = flat[i] end
  end
  table.sort(found)
  return found
end

-- Everything that readers show of a message: the fields of its hash, and a line for each
-- inbox that has it: agent, until when it is taken or delayed, its state. `only` is one inbox.
-- `budget` says how much more one reply may hold; an item of a page is whole where there is
-- room for the most receivers that a message has: see `has_room`.
function messages.has_room(budget)
  return budget.bytes > 0 and budget.left >= MSG_RECIPIENTS_MOST
end

function messages.budget() return { left = MSG_LINES_MOST, bytes = MSG_BYTES_MOST } end

function messages.item(t, id, only, budget)
  local fields = call('HGETALL', message_keys(t.prefix, '').message .. id)
  local lines, shown = {}, {}
  for i = 1, #fields, 2 do
    local agent = match(fields[i], '^>(.+)$')
    if not agent then
      shown[#shown + 1], shown[#shown + 2] = fields[i], fields[i + 1]
      budget.bytes = budget.bytes - #fields[i + 1]
    elseif (only == '' or only == agent) and budget.left > 0 then
      budget.left = budget.left - 1
      local keys = message_keys(t.prefix, agent)
      local line = call('HGET', keys.state, id)
      local letter = line and string.sub(line, 1, 1)
      local until_ms = letter == 'd' and call('ZSCORE', keys.leases, id)
        or letter == 'w' and call('ZSCORE', keys.delayed, id)
      if line then lines[#lines + 1] = agent .. '|' .. (until_ms or '') .. '|' .. line end
      budget.bytes = budget.bytes - #(line or '')
    end
  end
  return shown, concat(lines, '\n')
end

-- Broadcasts: one stream, numbered without a gap, and for each agent that reads it a line in
-- `broadcasts:cursors`:
--
--   n|upto|until|fence|tries
--
-- It has read all up to n, and may hold those behind it up to `upto` until a time. One that
-- has not read yet begins with what was sent since it registered, else with the oldest kept.
function messages.cursor(t, agent)
  local keys = message_keys(t.prefix, agent)
  local line = call('HGET', keys.cursors, agent)
  if line then
    local n, upto, until_ms, fence, tries = match(line, '^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)$')
    return {
      n = tonumber(n), upto = tonumber(upto), until_ms = tonumber(until_ms), fence = fence,
      tries = tonumber(tries),
    }
  end
  local cursor = { n = 0, upto = 0, until_ms = 0, fence = '0', tries = 0, is_new = true }
  local first = call('XRANGE', keys.broadcasts, '-', '+', 'COUNT', 1)[1]
  local last = tonumber(call('HGET', keys.cursors, '#last') or 0)
  cursor.n = first and messages.number(first) - 1 or last
  local since = call('HGET', agent_key(t.prefix, agent), 'registration_time')
  if not (first and since) then return cursor end
  local low, high = cursor.n + 1, last + 1
  while low < high do -- bounded by the logarithm of how many are kept
    local middle = floor((low + high) / 2)
    local row = call('XRANGE', keys.broadcasts, int(middle) .. '-0', '+', 'COUNT', 1)[1]
    if row and iso(tonumber(row[2][4])) >= since then high = middle else low = middle + 1 end
  end
  cursor.n = low - 1
  return cursor
end

function messages.number(row) return tonumber(match(row[1], '^%d+')) end

function messages.save_cursor(t, agent, cursor)
  local line = concat({ int(cursor.n), int(cursor.upto), int(cursor.until_ms), cursor.fence,
    int(cursor.tries) }, '|')
  hput(t, message_keys(t.prefix, agent).cursors, agent, line)
end

-- Removes the oldest broadcasts: all beyond their number, and those too old, at most `most`.
-- Answers whether there may be more.
function messages.retire_broadcasts(t, most)
  local keys, gone, rows = message_keys(t.prefix, ''), {}, {}
  local over = call('XLEN', keys.broadcasts) - MSG_BROADCASTS_MOST
  local first = call('XRANGE', keys.broadcasts, '-', '+', 'COUNT', most)
  for i = 1, #first do
    if i > over and tonumber(first[i][2][4]) > t.ms - MSG_BROADCAST_MS then break end
    rows[i] = first[i][1]
    messages.forget(t, keys, first[i][2][2], first[i][2][6], true, gone)
  end
  if #rows == 0 then return false end
  call('XDEL', keys.broadcasts, unpack_values(rows))
  call('UNLINK', unpack_values(gone))
  return #rows == most
end

-- Brings an inbox whose agent is not registered nearer to its end. Each message is kept a day
-- from when it came, or from when the agent went; then the links of the name go too.
-- Answers whether there may be more.
function messages.wind_up(t, box, most)
  local keys = box.keys
  if not box.gone then
    box.gone = t.ms
    hput(t, keys.state, '#gone', t.ms)
  end
  local from = box.gone + MSG_GONE_MS
  if t.ms < from then
    messages.due(box, from)
    return false
  end
  local ids = call('ZRANGE', keys.waiting, box.wind, box.wind + most - 1)
  messages.load(box, ids)
  local stays = 0
  for i = 1, #ids do
    local m = box.states[ids[i]]
    local at = m and tonumber(m[MSG_SINCE]) + MSG_GONE_MS
    if not m then
      messages.remove(t, keys.waiting, ids[i])
    elseif at <= t.ms then
      messages.expire(t, box, ids[i], m)
    else
      stays = stays + 1
      messages.due(box, at)
    end
  end
  local is_all = #ids < most
  box.wind = is_all and 0 or box.wind + stays
  hput(t, keys.state, '#wind', box.wind > 0 and box.wind or false)
  local topics = call('ZRANGE', keys.topics, 0, -1)
  for i = 1, #topics do call('HDEL', keys.topic .. topics[i], box.name) end
  call('HDEL', keys.cursors, box.name)
  call('UNLINK', keys.peers, keys.subordinates, keys.topics)
  hput(t, keys.state, '#limit', false)
  return not is_all
end

-- One visit of the sweep; answers whether the inbox wants another at once.
function messages.sweep(t, box, most)
  local keys = box.keys
  local is_known = call('ZSCORE', agents_known_key(t.prefix), box.name) ~= false
  local more = false
  if messages.refresh(t, box, most) then messages.flush(t) end
  if is_known then
    if box.gone then hput(t, keys.state, '#gone', false) end
    if box.wind > 0 then hput(t, keys.state, '#wind', false) end
    box.gone = nil
  elseif messages.wind_up(t, box, most) then
    more = true
  end
  if messages.retire_old(t, box, most) then more = true end
  messages.flush(t)
  local left = call('ZCARD', keys.waiting)
  local function earliest(key, after)
    local row = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if row[2] then
      left = left + 1
      messages.due(box, tonumber(row[2]) + after)
    end
  end
  earliest(keys.leases, 0)
  earliest(keys.delayed, 0)
  earliest(keys.expiry, 0)
  earliest(keys.finished, MSG_FINISHED_MS)
  earliest(keys.dead, MSG_DEAD_MS)
  messages.due(box, t.ms + MSG_VISIT_MS)
  local is_used = left > 0
    or call('EXISTS', keys.peers, keys.subordinates, keys.topics) > 0
    or call('HEXISTS', keys.state, '#limit') == 1
    or call('HEXISTS', keys.cursors, box.name) == 1
  if not is_used then
    call('UNLINK', keys.state)
    call('ZREM', keys.all, box.name)
    t.boxes[box.name] = nil
    return false
  end
  -- Something overdue that has its grace is looked at again soon; else at once.
  local at = more and t.ms or math.max(box.due, t.ms + 1000)
  call('ZADD', keys.all, at, box.name)
  t.boxes[box.name] = nil
  return more
end
