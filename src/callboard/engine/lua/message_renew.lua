-- Push the deadlines of taken messages forward, for those still held under these fences.
--
-- KEYS    format
-- ARGV    agent:str, lease_ms:int, count:int, items:rows
-- RETURNS ok until_ms answers | no_namespace | newer_format
-- ITEMS   ok | lease_lost | message_not_found
-- EVENTS  none: a renewal is not news
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
local ids, answers, moved = {}, {}, {}
for i = 1, count do ids[i] = ARGV[items_at + (i - 1) * 2] end
messages.load(box, ids)
local until_ms = t.ms + lease_ms

-- writes
for i = 1, count do
  local m = box.states[ids[i]]
  if not m then
    answers[i] = 'message_not_found'
  elseif m[MSG_LETTER] ~= 'd' or m[MSG_FENCE] ~= ARGV[items_at + i * 2 - 1] then
    answers[i] = 'lease_lost'
  else
    answers[i] = 'ok'
    moved[#moved + 1], moved[#moved + 2] = until_ms, ids[i]
  end
end
-- GT: it never moves backwards.
if #moved > 0 then call('ZADD', box.keys.leases, 'XX', 'GT', unpack_values(moved)) end
close(t)
return { 'ok', until_ms, concat(answers, ',') }
