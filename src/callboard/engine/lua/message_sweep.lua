-- One bounded round over the inboxes that are due: expired messages end, overdue and delayed
-- ones come back, what was kept long enough goes, inboxes of names that are gone end.
--
-- Not more than `limit` inboxes and 200 messages of each sort in each; `more` asks for
-- another round.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok more visited | no_namespace | newer_format
-- EVENTS  message:expired, message:released, message:dead
-- REPEAT  by state
-- FLAGS   allow-oom
-- include message

local MOST = 200
local t, refusal = open(format_key, now)
if not t then return refusal end
local common = message_keys(t.prefix, '')
local due = call('ZRANGEBYSCORE', common.all, '-inf', t.ms, 'LIMIT', 0, limit)
touch('XLEN', events_key(t.prefix))
touch('XLEN', common.broadcasts)
touch('ZCARD', common.sent)
touch('HLEN', common.cursors)
local boxes = {}
for i = 1, #due do
  -- Somebody else's value under one of an inbox's names must not stop the sweep of the others.
  local is_ours, box = pcall(messages.box, t, due[i])
  boxes[i] = is_ours and box
end

-- writes
t.by = 'janitor'
local more = #due == limit
for i = 1, #due do
  if boxes[i] then
    if messages.sweep(t, boxes[i], MOST) then more = true end
  else
    call('ZADD', common.all, t.ms + MSG_VISIT_MS, due[i])
  end
end
if messages.retire_broadcasts(t, MOST) then more = true end
if call('HLEN', common.cursors) == 1 and call('XLEN', common.broadcasts) == 0 then
  -- Nothing is kept, and nobody has a place in it.
  call('UNLINK', common.broadcasts, common.cursors)
end
messages.finish(t)
return { 'ok', more and 'more' or '', #due }
