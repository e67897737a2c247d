-- A page of messages: of one inbox, or of the history by sender, receiver or thread.
--
-- `which` is unread (waiting, delayed, then taken ones), waiting, delayed, taken, dead or
-- finished of the inbox `name`; sender, receiver, thread or all, which are the newest first;
-- `from` and `to` bound the time sent of these (ms). Values as message_read gives them; of
-- an inbox only its own line. `more` says that the page ends by its 4 MiB, or 5,000 lines,
-- and goes on behind what it has.
--
-- KEYS    format
-- ARGV    which:str, name:str, from:int, to:int, offset:int, limit:int
-- RETURNS ok now_ms total messages more | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = message_keys(t.prefix, name)
local INBOX = {
  waiting = { 'waiting' }, delayed = { 'delayed' }, taken = { 'leases' }, dead = { 'dead' },
  finished = { 'finished' }, unread = { 'waiting', 'delayed', 'leases' },
}
local ids, total = {}, 0
if INBOX[which] then
  local skip = offset
  for _, field in ipairs(INBOX[which]) do
    local size = call('ZCARD', keys[field])
    total = total + size
    if skip < size and #ids < limit then
      local more = call('ZRANGE', keys[field], skip, skip + limit - #ids - 1)
      for i = 1, #more do ids[#ids + 1] = more[i] end
    end
    skip = math.max(skip - size, 0)
  end
else
  local key = keys.sent
  if which == 'sender' then key = keys.by_sender .. name end
  if which == 'receiver' then key = keys.received end
  if which == 'thread' then key = keys.thread .. name end
  total = call('ZCOUNT', key, from, to)
  ids = call('ZREVRANGEBYSCORE', key, to, from, 'LIMIT', offset, limit)
  -- What began a thread without knowing is not in the thread's index.
  if which == 'thread' and not call('ZSCORE', key, name) then
    local at = tonumber(call('HGET', keys.message .. name, 'at') or '')
    if at and at >= from and at <= to then
      if #ids < limit and offset <= total then ids[#ids + 1] = name end
      total = total + 1
    end
  end
end
local found, budget, more = {}, messages.budget(), ''
for i = 1, #ids do
  if not messages.has_room(budget) then
    more = 'more'
    break
  end
  local fields, lines = messages.item(t, ids[i], INBOX[which] and name or '', budget)
  found[i * 3 - 2], found[i * 3 - 1], found[i * 3] = ids[i], fields, lines
end
return { 'ok', t.ms, total, found, more }
