-- Read what the agents of a type say they are doing, those longest in it first; `state` is
-- idle, busy or failed, or empty for all.
--
-- Answers agent, type, state, ms, task, and 1 where it may claim now, for each.
--
-- KEYS    format
-- ARGV    agent_type:str, state:str, limit:int
-- RETURNS ok agent type state at_ms task live | no_namespace | newer_format
-- EVENTS  none: it only reads
-- FLAGS   no-writes
-- include activity

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, answer = activity_keys(t.prefix, agent_type), { 'ok' }
for _, one in ipairs(state ~= '' and { state } or { 'idle', 'busy', 'failed' }) do
  local ids = call('ZRANGE', keys[one], 0, limit - 1)
  for i = 1, #ids do
    local own = activity.read(t, ids[i])
    if own then
      local n = #answer
      answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = ids[i], own.type, own.state, own.at
      answer[n + 5] = own.task
      answer[n + 6] = call('SISMEMBER', agents_active_key(t.prefix), ids[i])
    end
  end
end
return answer
