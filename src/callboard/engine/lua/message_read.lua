-- Messages by their ids, with where each stands: three values each, id, fields, lines.
--
-- Fields is what the hash has, empty where there is no such message; a line is agent, until
-- when it is taken or delayed (ms), and the state. It ends with the first of them that fills
-- 4 MiB, or 5,000 lines; the rest is asked for again.
--
-- KEYS    format
-- ARGV    count:int, ids:rows
-- RETURNS ok now_ms messages | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local found, budget = {}, messages.budget()
for i = 1, count do
  if not messages.has_room(budget) then break end
  local id = ARGV[ids_at + i - 1]
  local fields, lines = messages.item(t, id, '', budget)
  found[i * 3 - 2], found[i * 3 - 1], found[i * 3] = id, fields, lines
end
return { 'ok', t.ms, found }
