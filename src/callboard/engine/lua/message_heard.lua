-- Acknowledge broadcasts up to a number, and keep, or give back, those behind it.
--
-- `upto` 0 acknowledges none; `lease_ms` 0 gives the rest back, else it is held on so long.
--
-- KEYS    format
-- ARGV    agent:str, fence:str, upto:int, lease_ms:int
-- RETURNS ok n until_ms | lease_lost | no_namespace | newer_format
-- EVENTS  message:acknowledged
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = message_keys(t.prefix, agent)
local cursor = messages.cursor(t, agent)
if cursor.is_new or cursor.fence ~= fence or upto > cursor.upto then return { 'lease_lost' } end
touch('XLEN', events_key(t.prefix))

-- writes
t.by = agent
if upto > cursor.n then
  cursor.n, cursor.tries = upto, 0
  fact(t, 'message:acknowledged', '', '', 'read', agent, fence, 'broadcast|' .. int(upto))
end
cursor.until_ms = lease_ms > 0 and t.ms + lease_ms or 0
if lease_ms == 0 and cursor.upto > cursor.n then
  cursor.upto = cursor.n
  t.bells[keys.bell] = ''
end
messages.save_cursor(t, agent, cursor)
close(t)
return { 'ok', cursor.n, cursor.until_ms }
