-- Put dead letters back into their inbox, with all their deliveries before them.
--
-- One whose time is over has none any more.
--
-- KEYS    format
-- ARGV    agent:str, by:str, count:int, ids:rows
-- RETURNS ok now_ms answers | no_namespace | newer_format
-- ITEMS   ok | illegal_state | message_not_found
-- EVENTS  message:requeued
-- REPEAT  by state
-- FLAGS   allow-oom
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
touch('XLEN', events_key(t.prefix))
local ids, answers = {}, {}
for i = 1, count do ids[i] = ARGV[ids_at + i - 1] end
messages.load(box, ids)

-- writes
t.by = by
for i = 1, count do
  local m = box.states[ids[i]]
  if not m then
    answers[i] = 'message_not_found'
  elseif m[MSG_LETTER] ~= 'f' then
    answers[i] = 'illegal_state'
  else
    m[MSG_COUNT] = '0'
    if messages.is_expired(t, m) then m[MSG_EXPIRES] = '' end
    if m[MSG_EXPIRES] ~= '' then
      zput(t, box.keys.expiry, ids[i], m[MSG_EXPIRES])
      messages.due(box, tonumber(m[MSG_EXPIRES]))
    end
    messages.wait(t, box, ids[i], m)
    fact(t, 'message:requeued', '', ids[i], 'pending', agent, 0, m[MSG_SENDER])
    answers[i] = 'ok'
  end
end
messages.finish(t)
return { 'ok', t.ms, concat(answers, ',') }
