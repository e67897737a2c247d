-- Put messages into the inboxes of those that they are for; answered one by one.
--
-- Each message is written whole or not at all. `to` is agents with commas, all of which must
-- have room; `?type;capabilities;services;labels` for the agents registered now that have all
-- of it, `#topic` for its subscribers now, `@peers` or `@subordinates` for those of the
-- sender: of these, full inboxes are passed over and named. `spec` is
-- sender|type|priority|ttl_ms|deliveries|protocol|thread|parent|marks|owner. A message
-- known by its id with the same body is `replayed`. With an `owner` a request is a wait of
-- the wait-for graph; where it closes a circle, and its owner is the victim, it is not sent.
-- `extras` has the place of an item and what is to be said of it: recipients;full inboxes, or
-- who refused. A call looks at some 2,000 inboxes: where there are fewer answers than items,
-- nothing was done of the rest, which is to be sent again.
--
-- KEYS    format
-- ARGV    by:str, count:int, items:rows
-- RETURNS ok now_ms answers extras | no_namespace | newer_format
-- ITEMS   ok | replayed | id_conflict | inbox_full | not_a_peer | not_in_hierarchy | too_many_recipients | deadlock_victim
-- EVENTS  message:sent, deadlock:detected, resource:released, resource:acquired
-- REPEAT  by message id
-- include message, waits

local SPEC = '^([^|]*)|([^|]*)|(-?%d+)|(%d*)|(%d+)|([^|]*)|([^|]*)|([^|]*)|(%a*)|([^|]*)$'
local MESSAGE_VALUES = 4
local t, refusal = open(format_key, now)
if not t then return refusal end
local common = message_keys(t.prefix, '')
local answers, extras, plans, seen, receivers, ids = {}, {}, {}, {}, {}, {}
local looked_at = 0
for i = 1, count do ids[i] = common.message .. ARGV[items_at + (i - 1) * MESSAGE_VALUES] end
local are_known = count > 0 and call('EXISTS', unpack_values(ids)) > 0

local function refuse_item(i, word, detail)
  answers[i] = word
  if detail then extras[#extras + 1], extras[#extras + 2] = i - 1, detail end
end

local function recipients_of(to, kind, sender)
  local mark = string.sub(to, 1, 1)
  if mark == '?' then return messages.matching(t, ';' .. string.sub(to, 2), sender), true end
  if mark == '#' then return messages.subscribers(t, string.sub(to, 2), kind, sender), true end
  if mark == '@' then
    local names = call('ZRANGE', message_keys(t.prefix, sender)[string.sub(to, 2)], 0,
      MSG_RECIPIENTS_MOST)
    return messages.without(names, sender), true
  end
  if not string.find(to, ',', 1, true) then return { to }, false end
  local names = {}
  for name in gmatch(to, '[^,]+') do names[#names + 1] = name end
  return names, false
end

-- Whether the protocol lets the sender write to this agent.
local function may_write(protocol, sender, agent)
  if protocol == 'peer_to_peer' then
    return call('ZSCORE', message_keys(t.prefix, sender).peers, agent) ~= false, 'not_a_peer'
  elseif protocol == 'hierarchical' then
    return call('ZSCORE', message_keys(t.prefix, sender).subordinates, agent) ~= false
      or call('ZSCORE', message_keys(t.prefix, agent).subordinates, sender) ~= false, 'not_in_hierarchy'
  end
  return true
end

-- Most messages of a batch have one and the same line.
local specs = {}
local function spec_of(line)
  local spec = specs[line]
  if spec then return spec end
  local sender, kind, priority, ttl, most, protocol, thread, parent, marks, owner = match(line, SPEC)
  spec = {
    sender = sender, kind = kind, ttl = tonumber(ttl), most = most, protocol = protocol,
    thread = thread, parent = parent, marks = marks, owner = owner,
    base = (MSG_PRIORITY_TOP - tonumber(priority)) * MSG_PRIORITY_STEP,
  }
  if sender ~= '' then touch('ZCARD', common.by_sender .. sender) end
  if owner ~= '' then waits.touch(t, owner) end
  specs[line] = spec
  return spec
end

for i = 1, count do
  if looked_at + (t.roster_read or 0) >= MSG_PUT_MOST then break end
  local at = items_at + (i - 1) * MESSAGE_VALUES
  local id, to, body = ARGV[at], ARGV[at + 1], ARGV[at + 3]
  local spec = spec_of(ARGV[at + 2])
  local sender, thread = spec.sender, spec.thread
  local known = are_known and call('HGET', common.message .. id, 'body') or seen[id]
  if known then
    if known ~= body then
      refuse_item(i, 'id_conflict')
    else
      local names, fields = {}, call('HKEYS', common.message .. id)
      for n = 1, #fields do names[#names + 1] = match(fields[n], '^>(.+)$') end
      if seen[id] then names = receivers[id] end
      looked_at = looked_at + #names
      refuse_item(i, 'replayed', concat(names, ',') .. ';')
    end
  else
    local names, is_group = recipients_of(to, spec.kind, sender)
    local word, about = nil, {}
    if not names then word = 'too_many_recipients' end
    looked_at = looked_at + (names and #names or MSG_RECIPIENTS_MOST)
    local chosen = {}
    for n = 1, names and #names or 0 do
      local is_allowed, why = may_write(spec.protocol, sender, names[n])
      if not is_allowed then
        word, about = why, { names[n] }
        break
      end
      local box = messages.box(t, names[n])
      if not box.room then
        box.room = box.limit - messages.unfinished(box)
        box.stored = messages.list(t.stored, box.keys.state)
        box.places = messages.list(t.added, box.keys.waiting)
        box.times = messages.list(t.added, box.keys.received)
      end
      if box.room > 0 then
        chosen[#chosen + 1] = box
      else
        about[#about + 1] = names[n]
      end
    end
    if not word and #about > 0 and (not is_group or #chosen == 0) then word = 'inbox_full' end
    if word then
      refuse_item(i, word, concat(about, ','))
    else
      if spec.parent ~= '' and thread == '' then
        thread = call('HGET', common.message .. spec.parent, 'thread') or spec.parent
      end
      if thread ~= '' then touch('ZCARD', common.thread .. thread) end
      for n = 1, #chosen do chosen[n].room = chosen[n].room - 1 end
      answers[i], seen[id], receivers[id] = 'ok', body, names
      if #chosen > 0 then
        plans[#plans + 1] = {
          id = id, body = body, spec = spec, thread = thread, boxes = chosen, place = i,
          expires = spec.ttl and int(t.ms + spec.ttl) or '',
        }
      end
      if is_group then
        local taken = {}
        for n = 1, #chosen do taken[n] = chosen[n].name end
        receivers[id] = taken
        extras[#extras + 1], extras[#extras + 2] = i - 1, concat(taken, ',') .. ';' .. concat(about, ',')
      end
    end
  end
end
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
local sent_at = int(t.ms)
local all, by_sender, lines = {}, {}, lines_of(t, 'message:sent', '')
local function push(list, x, y)
  local n = #list
  list[n + 1], list[n + 2] = x, y
end
local function put(p)
  local id, spec, boxes = p.id, p.spec, p.boxes
  local values = { 'body', p.body, 'at', sent_at }
  local marks = spec.marks
  if p.thread ~= '' then
    push(values, 'thread', p.thread)
    marks = marks .. 't'
    zput(t, common.thread .. p.thread, id, t.ms)
  end
  if spec.owner ~= '' then push(values, 'owner', spec.owner) end
  if #boxes > 1 then marks = marks .. 'm' end
  local tail = '|0|0|' .. sent_at .. '|' .. p.expires .. '|' .. spec.most .. '|' .. marks .. '|'
    .. spec.sender .. '|'
  for n = 1, #boxes do
    local box = boxes[n]
    local keys, seq = box.keys, box.seq + 1
    local score = int(spec.base + seq)
    box.seq, box.seq_changed = seq, true
    t.bells[keys.bell] = ''
    push(values, '>' .. box.name, '')
    push(box.stored, id, 'p|' .. score .. tail)
    push(box.places, score, id)
    push(box.times, sent_at, id)
    if p.expires ~= '' then
      messages.add(t, keys.expiry, id, p.expires)
      messages.due(box, tonumber(p.expires))
    end
    lines[#lines + 1] = id .. '|pending|' .. spec.sender .. '|0|' .. box.name .. '|' .. spec.kind
  end
  call('HSET', common.message .. id, unpack_values(values))
  push(all, sent_at, id)
  if spec.sender ~= '' then push(messages.list(by_sender, spec.sender), sent_at, id) end
end
for i = 1, #plans do
  local p, incident = plans[i], nil
  if p.spec.owner ~= '' then
    incident = waits.request(t, p.spec.owner, p.id, p.boxes[1].name, tonumber(p.expires), 'm.' .. p.id)
    if incident then
      waits.told(t, p.spec.owner)
      refuse_item(p.place, 'deadlock_victim', incident)
    end
    locks.wake(t)
    locks.flush(t)
  end
  if not incident then put(p) end
end
if #all > 0 then send('ZADD', common.sent, all) end
for sender, list in pairs(by_sender) do send('ZADD', common.by_sender .. sender, list) end
messages.finish(t)
return { 'ok', t.ms, concat(answers, ','), extras }
