-- What there is to say about where a message stands in an inbox: the first by name that has
-- it, where no agent is given.
--
-- `rank` is how many are taken before it, -1 where it does not wait; `status` is that of the
-- registered agent, empty where nobody of the name is registered. Of a broadcast or a reply,
-- which lie in no inbox, the line is empty, and `rank` is the number up to which the agent has
-- acknowledged broadcasts, -1 where none is given.
--
-- KEYS    format
-- ARGV    id:str, agent:str
-- RETURNS ok now_ms fields line rank waiting taken status | message_not_found | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local fields, lines = messages.item(t, id, agent, messages.budget())
local first
for line in gmatch(lines, '[^\n]+') do
  if not first or line < first then first = line end
end
if not first then
  local h = call('HMGET', message_keys(t.prefix, '').message .. id, 'n', 're')
  if not (h[1] or h[2]) then return { 'message_not_found' } end
  local upto = h[1] and agent ~= '' and messages.cursor(t, agent).n or -1
  return { 'ok', t.ms, fields, '', upto, 0, 0, '' }
end
local name = match(first, '^[^|]+')
local keys = message_keys(t.prefix, name)
local h = call('HMGET', agent_key(t.prefix, name), 'profile', 'status', 'gone')
return { 'ok', t.ms, fields, first, call('ZRANK', keys.waiting, id) or -1,
  call('ZCARD', keys.waiting), call('ZCARD', keys.leases), h[1] and (h[3] or h[2] or '') or '' }
