-- Continue the queued cascades of the namespace, a bounded piece a call.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok more | no_namespace | newer_format
-- EVENTS  task:failed, task:cancelled, task:ready, task:revived, task:assigned
-- REPEAT  by state
-- FLAGS   allow-oom
-- include outcome

local t, refusal = open(format_key, now)
if not t then return refusal end
local key = cascades_key(t.prefix)
local queued = call('LRANGE', key, 0, limit - 1)
if #queued == 0 then return { 'ok', '' } end
t.cascade = {}
for i = 1, #queued do
  local name, id, from = match(queued[i], '^([^:]*):([^:]*):(%d+)$')
  t.cascade[i] = { b = board(t, name), id = id, from = tonumber(from) }
end
for _, b in pairs(t.boards) do touch_board(b) end

-- writes
t.by = 'janitor'
call('LTRIM', key, #queued, -1)
cascade(t)
finish(t)
return { 'ok', call('LLEN', key) > 0 and 'more' or '' }
