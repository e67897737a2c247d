-- Remove contexts whose time is over, at most `limit` of them.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok more | no_namespace | newer_format
-- EVENTS  context:updated
-- REPEAT  by state
-- FLAGS   allow-oom
-- include context

local t, refusal = open(format_key, now)
if not t then return refusal end
local due = context_keys(t.prefix, '').due
local names = call('ZRANGEBYSCORE', due, '-inf', t.ms, 'LIMIT', 0, limit)
if #names == 0 then return { 'ok', 0 } end
local over = {}
for i = 1, #names do
  over[i] = contexts.read(t, names[i])
  contexts.touch(t, over[i])
end

-- writes
t.by = 'janitor'
for i = 1, #over do
  if over[i].is_over then
    contexts.drop(t, over[i], 'expired')
  else
    zput(t, due, over[i].project, over[i].expires or false)
  end
end
close(t)
return { 'ok', #names == limit and 1 or 0 }
