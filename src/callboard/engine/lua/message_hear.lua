-- Give an agent the broadcasts behind its cursor, under a fence and for a time.
--
-- The cursor moves when they are acknowledged. Where some behind it are not kept any more,
-- `gap_first` and `gap_last` number them, else they are 0. One that was given out five times
-- and never acknowledged is passed over. An agent does not hear itself. Three values each:
-- id, n|sent_at|sender|thread, body.
--
-- KEYS    format
-- ARGV    agent:str, limit:int, lease_ms:int
-- RETURNS ok now_ms until_ms fence upto gap_first gap_last messages | held until_ms | no_namespace | newer_format
-- EVENTS  message:dead
-- FLAGS   allow-oom
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
local keys = box.keys
local cursor = messages.cursor(t, agent)
if cursor.upto > cursor.n and not is_over(t, cursor.until_ms) then
  return { 'held', cursor.until_ms }
end
local last = tonumber(call('HGET', keys.cursors, '#last') or 0)
if last <= cursor.n then return { 'ok', t.ms, 0, '0', 0, 0, 0, {} } end
local first = call('XRANGE', keys.broadcasts, '-', '+', 'COUNT', 1)[1]
local from = first and messages.number(first) or last + 1
local gap_first, gap_last, at = 0, 0, cursor.n
if from > at + 1 then gap_first, gap_last, at = at + 1, from - 1, from - 1 end
local rows = call('XRANGE', keys.broadcasts, int(at + 1) .. '-0', '+', 'COUNT', limit)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = agent
messages.use(t, box)
local found, bytes, begin = {}, 0, 1
if cursor.tries >= MSG_HEARD_MOST and #rows > 0 then
  fact(t, 'message:dead', '', rows[1][2][2], 'dead', agent, cursor.fence, 'broadcast')
  at, cursor.n, cursor.tries, begin = at + 1, at + 1, 0, 2
end
for i = begin, #rows do
  local id, sent_at, sender = rows[i][2][2], rows[i][2][4], rows[i][2][6]
  local h = call('HMGET', keys.message .. id, 'body', 'thread')
  if h[1] and sender ~= agent then
    bytes = bytes + #h[1]
    if bytes > MSG_BYTES_MOST and #found > 0 then break end
    local n = #found
    found[n + 1], found[n + 3] = id, h[1]
    found[n + 2] = int(at + 1) .. '|' .. sent_at .. '|' .. sender .. '|' .. (h[2] or '')
  end
  at = at + 1
end
local until_ms, fence = 0, '0'
if #found == 0 and gap_last == 0 then
  cursor.n, cursor.upto, cursor.until_ms, cursor.tries = at, at, 0, 0
else
  until_ms, fence = t.ms + lease_ms, int(take_fences(t, 1))
  cursor.upto, cursor.until_ms, cursor.fence, cursor.tries = at, until_ms, fence, cursor.tries + 1
end
messages.save_cursor(t, agent, cursor)
if cursor.is_new then
  if box.is_new then box.seq_changed = true end
  messages.due(box, t.ms + 1000)
end
messages.finish(t)
return { 'ok', t.ms, until_ms, fence, at, gap_first, gap_last, found }
