-- Count conflicts: all, open, resolved, then kinds and, up to `limit`, strategies with how many
-- of each.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok total open resolved counts | no_namespace | newer_format
-- EVENTS  none: it only reads
-- FLAGS   no-writes
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = conflict_keys(t.prefix, '')
local answer = { 'ok', call('ZCARD', keys.all), call('ZCARD', keys.open), call('ZCARD', keys.resolved) }
local kinds, strategies = {}, {}
for _, kind in ipairs({ 'resource', 'task', 'context' }) do
  kinds[#kinds + 1] = kind
  kinds[#kinds + 1] = call('ZCARD', keys.by_kind .. kind)
end
for i, name in ipairs(call('SMEMBERS', keys.strategies)) do
  if i > limit then break end
  strategies[#strategies + 1] = name
  strategies[#strategies + 1] = call('ZCARD', keys.by_strategy .. name)
end
answer[5], answer[6] = kinds, strategies
return answer
