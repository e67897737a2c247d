-- Set how many unfinished messages an inbox holds before it refuses more.
--
-- KEYS    format
-- ARGV    agent:str, by:str, limit:int
-- RETURNS ok | no_namespace | newer_format
-- EVENTS  inbox:changed
-- REPEAT  by state
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
messages.use(t, box)
hput(t, box.keys.state, '#limit', limit ~= MSG_LIMIT and limit or false)
if box.is_new then box.seq_changed = true end
fact(t, 'inbox:changed', '', agent, 'limit', agent, 0, int(limit))
messages.finish(t)
return { 'ok' }
