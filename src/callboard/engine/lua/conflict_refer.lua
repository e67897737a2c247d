-- Put a conflict before an arbiter, an agent or a person, who decides it until a deadline.
--
-- If they do not, `fallback` wins, for `fallback_reason`; with none it is left undecided.
--
-- KEYS    format
-- ARGV    id:str, by:str, operation:str, arbiter:str, last_ms:int, fallback:str, fallback_reason:str
-- RETURNS ok deadline | replayed deadline | conflict_not_found | already_resolved winner strategy | conflict_busy status deadline | not_a_party | no_namespace | newer_format
-- EVENTS  conflict:referred
-- REPEAT  by operation id
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local c = conflicts.read(t, id)
if not c then return { 'conflict_not_found' } end
if conflicts.is_resolved(c) then return { 'already_resolved', c.f.winner, c.f.strategy } end
if c.f.status == 'referred' and c.f.operation == operation then
  return { 'replayed', tonumber(c.f.deadline) }
end
if c.f.status == 'voting' or c.f.status == 'referred' then
  return { 'conflict_busy', c.f.status, c.f.deadline or '' }
end
if fallback ~= '' and not c.places[fallback] then return { 'not_a_party' } end
conflicts.touch(t, c.keys)
touch('ZCARD', c.keys.pending .. arbiter)

-- writes
t.by = by
local deadline = t.ms + last_ms
local fields = { status = 'referred', arbiter = arbiter, deadline = int(deadline), operation = operation }
for field, value in pairs(fields) do conflicts.put(t, c, field, value) end
if fallback ~= '' then
  conflicts.put(t, c, 'fallback', fallback)
  conflicts.put(t, c, 'fallback_reason', fallback_reason)
end
zput(t, c.keys.due, id, deadline)
zput(t, c.keys.pending .. arbiter, id, deadline)
conflicts.log(t, c, 'referred', by, '{"arbiter":"' .. arbiter .. '","fallback":"' .. fallback .. '","deadline":'
  .. int(deadline) .. '}')
conflicts.tell(t, c, 'conflict:referred', 'referred', arbiter, fallback)
close(t)
return { 'ok', deadline }
