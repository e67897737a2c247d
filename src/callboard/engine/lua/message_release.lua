-- Give taken messages back: to be taken again at once or after a while, or as dead letters.
--
-- With `is_spent` the delivery counts, and the last one that a message has makes it a dead
-- letter; `reason` is kept with the message. Without it the message comes back as if it had
-- not been taken.
--
-- KEYS    format
-- ARGV    agent:str, by:str, is_spent:int, reason:str, count:int, items:rows
-- RETURNS ok now_ms answers | no_namespace | newer_format
-- ITEMS   ok | dead | expired | lease_lost | message_not_found
-- EVENTS  message:released, message:expired, message:dead
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
touch('XLEN', events_key(t.prefix))
local ids, answers = {}, {}
for i = 1, count do ids[i] = ARGV[items_at + (i - 1) * 3] end
messages.load(box, ids)
for i = 1, reason == '' and 0 or count do touch('HLEN', box.keys.message .. ids[i]) end

-- writes
t.by = by == '' and agent or by
for i = 1, count do
  local id, fence, delay = ids[i], ARGV[items_at + i * 3 - 2], tonumber(ARGV[items_at + i * 3 - 1])
  local m = box.states[id]
  if not m then
    answers[i] = 'message_not_found'
  elseif m[MSG_LETTER] ~= 'd' or m[MSG_FENCE] ~= fence then
    answers[i] = 'lease_lost'
  else
    if is_spent == 0 then
      m[MSG_COUNT] = int(tonumber(m[MSG_COUNT]) - 1)
    elseif reason ~= '' then
      call('HSET', box.keys.message .. id, '!' .. agent, reason)
    end
    answers[i] = messages.back(t, box, id, m, delay, is_spent == 0 and 'released' or 'failed')
  end
end
messages.finish(t)
return { 'ok', t.ms, concat(answers, ',') }
