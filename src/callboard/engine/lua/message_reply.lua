-- Answer a request, once, before its deadline, and end it as read in the same step.
--
-- The reply goes to who waits for it, not into an inbox; it is kept as long as the request.
-- `fence` is that of the taken request, 0 where nobody has taken it.
--
-- KEYS    format
-- ARGV    agent:str, request:str, fence:str, id:str, body:str
-- RETURNS ok now_ms | replayed | already_answered reply | expired | not_a_request | lease_lost | held | illegal_state | id_conflict | message_not_found | no_namespace | newer_format
-- EVENTS  message:replied
-- REPEAT  by reply id
-- include message, waits

local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
local keys = box.keys
messages.load(box, { request })
local m = box.states[request]
local h = call('HMGET', keys.message .. request, 'thread', 'reply', 'owner')
if not m then return { 'message_not_found' } end
if not messages.has(m, 'q') then return { 'not_a_request' } end
if h[2] then
  local is_same = h[2] == id and call('HGET', keys.message .. id, 'body') == body
  if is_same then return { 'replayed' } end
  return { 'already_answered', h[2] }
end
if m[MSG_LETTER] == 'x' or messages.is_expired(t, m) then return { 'expired' } end
local word = messages.may_end(m, fence)
if word ~= 'ok' and word ~= 'replayed' then return { word } end
if call('EXISTS', keys.message .. id) == 1 then return { 'id_conflict', id } end
local thread = h[1] or request
local received = m[MSG_SENDER] ~= '' and message_keys(t.prefix, m[MSG_SENDER]).received
touch('ZCARD', keys.thread .. thread)
touch('ZCARD', keys.by_sender .. agent)
if received then touch('ZCARD', received) end
touch('XLEN', events_key(t.prefix))
if h[3] then waits.touch(t, h[3]) end

-- writes
t.by = agent
call('HSET', keys.message .. id, 'body', body, 'at', int(t.ms), 'thread', thread, 'sender', agent,
  're', request)
call('HSET', keys.message .. request, 'reply', id)
zput(t, keys.sent, id, t.ms)
zput(t, keys.thread .. thread, id, t.ms)
zput(t, keys.by_sender .. agent, id, t.ms)
if received then zput(t, received, id, t.ms) end
if m[MSG_LETTER] ~= 'r' then messages.finished(t, box, request, m, 'r') end
if h[3] then waits.answered(t, request) end
messages.due(box, t.ms + MSG_VISIT_MS)
t.bells[keys.reply_bell .. request] = 'answered'
fact(t, 'message:replied', '', request, 'answered', agent, m[MSG_FENCE], id .. '|' .. m[MSG_SENDER])
messages.finish(t)
return { 'ok', t.ms }
