-- Put a message where every agent reads it in its own time: one copy, numbered.
--
-- The 10,000 newest are kept, for 7 days. `spec` is sender|type|thread|parent. `recipients`
-- is how many agents are registered besides the sender.
--
-- KEYS    format
-- ARGV    id:str, spec:str, body:str
-- RETURNS ok n recipients | replayed n | id_conflict id | no_namespace | newer_format
-- EVENTS  message:broadcast
-- REPEAT  by message id
-- include message

local TRIMMED = 10
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = message_keys(t.prefix, '')
local sender, kind, thread, parent = match(spec, '^([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
local before = call('HMGET', keys.message .. id, 'body', 'n')
if before[1] then
  if before[1] == body and before[2] then return { 'replayed', tonumber(before[2]) } end
  return { 'id_conflict', id }
end
if parent ~= '' and thread == '' then
  thread = call('HGET', keys.message .. parent, 'thread') or parent
end
local n = tonumber(call('HGET', keys.cursors, '#last') or 0) + 1
local count = call('ZCARD', agents_known_key(t.prefix))
if sender ~= '' and call('ZSCORE', agents_known_key(t.prefix), sender) then count = count - 1 end
touch('XLEN', keys.broadcasts)
touch('ZCARD', keys.sent)
touch('ZCARD', keys.thread .. thread)
touch('ZCARD', keys.by_sender .. sender)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = sender
local values = { 'body', body, 'at', int(t.ms), 'n', int(n), 'sender', sender }
if thread ~= '' then
  values[9], values[10] = 'thread', thread
  zput(t, keys.thread .. thread, id, t.ms)
end
call('HSET', keys.message .. id, unpack_values(values))
call('XADD', keys.broadcasts, int(n) .. '-0', 'id', id, 'at', int(t.ms), 'from', sender)
hput(t, keys.cursors, '#last', int(n))
zput(t, keys.sent, id, t.ms)
if sender ~= '' then zput(t, keys.by_sender .. sender, id, t.ms) end
t.bells[keys.broadcast_bell] = int(n)
fact(t, 'message:broadcast', '', id, 'sent', sender, 0, int(n) .. '|' .. kind)
messages.retire_broadcasts(t, TRIMMED)
messages.finish(t)
return { 'ok', n, count }
