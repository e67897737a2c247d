-- Remove messages from an inbox, whatever their state, but for those that somebody has taken.
--
-- KEYS    format
-- ARGV    agent:str, by:str, count:int, ids:rows
-- RETURNS ok now_ms answers | no_namespace | newer_format
-- ITEMS   ok | held | message_not_found
-- EVENTS  message:purged
-- REPEAT  by state
-- FLAGS   allow-oom
-- include message

local WORDS = { p = 'pending', w = 'delayed', r = 'read', x = 'expired', f = 'dead' }
local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
touch('XLEN', events_key(t.prefix))
local ids, answers, gone = {}, {}, {}
for i = 1, count do ids[i] = ARGV[ids_at + i - 1] end
messages.load(box, ids)
for i = 1, count do touch('HLEN', box.keys.message .. ids[i]) end

-- writes
t.by = by
for i = 1, count do
  local m = box.states[ids[i]]
  if not m then
    answers[i] = 'message_not_found'
  elseif m[MSG_LETTER] == 'd' then
    answers[i] = 'held'
  else
    fact(t, 'message:purged', '', ids[i], WORDS[m[MSG_LETTER]], agent, 0, m[MSG_SENDER])
    gone[#gone + 1] = ids[i]
    box.states[ids[i]] = false -- its id again in this batch is nothing any more
    answers[i] = 'ok'
  end
end
messages.retire(t, box, gone)
messages.finish(t)
return { 'ok', t.ms, concat(answers, ',') }
