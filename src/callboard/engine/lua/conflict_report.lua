-- Report that several parties want what only one can have; the same id and report again
-- answers as before.
--
-- `kind` is resource, task or context; `about` is assignment, dependency or output of a task,
-- the field of a context, else empty. A row is a party: its name, priority, when it asked (us),
-- revision, owner of a lock, type of value (s, i, f, b, n, j), value; empty for what it does
-- not bring. Where `enforce` is 1 the verdict changes what the conflict is about.
--
-- KEYS    format
-- ARGV    id:str, kind:str, board_name:str, subject:str, about:str, by:str, enforce:int, context:str, body:str, count:int, parties:rows
-- RETURNS ok created_at | exists created_at | conflict_id_taken | task_not_found | too_many_conflicts limit | no_namespace | newer_format
-- EVENTS  conflict:resource, conflict:task, conflict:context
-- REPEAT  by id
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local c = conflicts.read(t, id)
if c and c.f.body == body then return { 'exists', tonumber(c.f.created_at) } end
if c then return { 'conflict_id_taken' } end
if kind == 'task' and not load_record(board(t, board_name), subject) then return { 'task_not_found' } end
c = { id = id, keys = conflict_keys(t.prefix, id), f = {}, parties = {} }
if call('ZCARD', c.keys.open) >= CONFLICTS_KEPT_MOST then
  return { 'too_many_conflicts', CONFLICTS_KEPT_MOST }
end
conflicts.touch(t, c.keys)
touch('ZCARD', c.keys.by_kind .. kind)

-- writes
t.by = by
local fields = { kind = kind, board = board_name, subject = subject, about = about, status = 'open',
  created_at = t.ms, created_by = by, enforce = enforce, context = context, body = body }
for field, value in pairs(fields) do conflicts.put(t, c, field, value) end
for i = 1, count do
  local at = parties_at + (i - 1) * 7
  local name = ARGV[at]
  c.parties[i] = name
  for k, field in ipairs({ 'priority', 'asked_at', 'rev', 'owner' }) do
    if ARGV[at + k] ~= '' then conflicts.put(t, c, name .. ':' .. field, ARGV[at + k]) end
  end
  if ARGV[at + 5] ~= '' then
    conflicts.put(t, c, name .. ':type', ARGV[at + 5])
    conflicts.put(t, c, name .. ':value', ARGV[at + 6])
  end
end
conflicts.put(t, c, 'parties', concat(c.parties, ','))
for _, key in ipairs({ c.keys.all, c.keys.open, c.keys.by_kind .. kind }) do zput(t, key, id, t.ms) end
zput(t, c.keys.due, id, t.ms + CONFLICT_LAPSES_MS)
conflicts.log(t, c, 'reported', by, '')
conflicts.tell(t, c, 'conflict:' .. kind, 'open', by, concat(c.parties, ','))
close(t)
return { 'ok', t.ms }
