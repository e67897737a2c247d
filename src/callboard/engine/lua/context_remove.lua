-- Remove a context with all its fields, if it is at the revision presented.
--
-- KEYS    format
-- ARGV    project:str, by:str, if_rev:str
-- RETURNS ok | rev_conflict rev by at_ms | context_not_found | no_namespace | newer_format
-- EVENTS  context:updated
-- FLAGS   allow-oom
-- include context

local t, refusal = open(format_key, now)
if not t then return refusal end
local c = contexts.read(t, project)
if c.is_new then return { 'context_not_found' } end
if if_rev ~= '' and tonumber(if_rev) ~= c.rev then return { 'rev_conflict', int(c.rev), c.by, c.at } end
contexts.touch(t, c)

-- writes
t.by = by
contexts.drop(t, c, 'deleted')
close(t)
return { 'ok' }
