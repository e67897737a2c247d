-- Append a note to a task, stamped with the server's time; the same operation id again
-- adds nothing. The note is a JSON object.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, id:str, operation:str, note:str
-- RETURNS ok count | replayed | task_not_found | too_many_notes limit | no_namespace | newer_format
-- EVENTS  task:noted
-- REPEAT  by operation id
-- include hold

local NOTES_MOST = 1000
local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
if not r then return { 'task_not_found' } end
local remembered = operation_key(t.prefix, operation)
if operation ~= '' and call('EXISTS', remembered) == 1 then return { 'replayed' } end
if call('LLEN', b.keys.notes .. id) >= NOTES_MOST then return { 'too_many_notes', NOTES_MOST } end
touch_events(b)

-- writes
t.by = by
local count = call('RPUSH', b.keys.notes .. id, string.sub(note, 1, -2) .. ',"at":' .. t.ms .. '}')
if operation ~= '' then call('SET', remembered, '1', 'PX', REQUEST_KEPT_MS) end
if not has(r, 'M') then
  flag(r, 'M')
  save(b, id)
end
fact(t, 'task:noted', b.name, id, WORDS[r[STATUS]], r[HOLDER], r[FENCE])
finish(t)
return { 'ok', count }
