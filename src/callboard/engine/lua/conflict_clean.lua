-- Remove conflicts that were resolved before a moment, at most `limit`; open ones stay.
--
-- KEYS    format
-- ARGV    by:str, age_ms:int, limit:int
-- RETURNS ok more removed | no_namespace | newer_format
-- EVENTS  conflict:removed
-- REPEAT  by state
-- FLAGS   allow-oom
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = conflict_keys(t.prefix, '')
local ids = call('ZRANGEBYSCORE', keys.resolved, '-inf', '(' .. t.ms - age_ms, 'LIMIT', 0, limit)
local old = {}
for i = 1, #ids do
  old[i] = conflicts.read_or_ghost(t, ids[i])
  conflicts.touch_end(t, old[i], old[i].f.strategy)
end

-- writes
t.by = by
for i = 1, #old do conflicts.remove(t, old[i]) end
close(t)
return { 'ok', #ids == limit and 1 or 0, #old }
