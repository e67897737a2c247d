-- Say what is to be thought of a group of errors: resolved, ignored, or open again.
--
-- `same` is what says nothing new: neither the state, nor a note, nor who said it.
--
-- KEYS    format
-- ARGV    fingerprint:str, state:str, by:str, note:str
-- RETURNS ok | same | error_not_found | no_namespace | newer_format
-- EVENTS  error:group
-- REPEAT  by state
-- FLAGS   allow-oom
-- include errors

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = error_keys(t.prefix)
local said = call('HMGET', keys.group .. fingerprint, 'state', 'by', 'note')
local before = said[1]
if not before then return { 'error_not_found' } end
local is_said = note == '' or note == said[3] and (by == '' or by == said[2])
if before == state and is_said then return { 'same' } end
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
call('HSET', keys.group .. fingerprint, 'state', state, 'by', by, 'note', note)
fact(t, 'error:group', '', fingerprint, state, '', 0, before)
close(t)
return { 'ok' }
