-- End messages as read: those taken under these fences, or with fence 0 those nobody has taken.
--
-- A fence that is overdue still counts while nobody else was given the message.
--
-- KEYS    format
-- ARGV    agent:str, by:str, count:int, items:rows
-- RETURNS ok now_ms answers | no_namespace | newer_format
-- ITEMS   ok | replayed | lease_lost | held | message_not_found | illegal_state
-- EVENTS  message:acknowledged
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include message

local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
touch('XLEN', events_key(t.prefix))
local ids, answers, seen = {}, {}, {}
for i = 1, count do ids[i] = ARGV[items_at + (i - 1) * 2] end
local states = count > 0 and call('HMGET', box.keys.state, unpack_values(ids)) or {}

-- writes
t.by = by == '' and agent or by
local keys, now_ms, ended = box.keys, int(t.ms), 0
local finished, gone = messages.list(t.added, keys.finished), messages.list(t.removed, keys.leases)
local stored = messages.list(t.stored, keys.state)
local lines, who = lines_of(t, 'message:acknowledged', ''), '|read|' .. agent .. '|'
for i = 1, count do
  local id, fence = ids[i], ARGV[items_at + i * 2 - 1]
  local before, its_fence, rest = match(not seen[id] and states[i] or '', messages.taken)
  if its_fence == fence then
    local n = #finished
    finished[n + 1], finished[n + 2] = now_ms, id
    n = #stored
    stored[n + 1], stored[n + 2] = id, 'r|' .. before .. fence .. '|' .. now_ms .. '|' .. rest
    gone[#gone + 1] = id
    lines[#lines + 1] = id .. who .. fence
    answers[i], ended, seen[id] = 'ok', ended + 1, fence
  elseif seen[id] then
    answers[i] = (fence == '0' or seen[id] == fence) and 'replayed' or 'lease_lost'
  else
    local m = states[i] and messages.parse(states[i])
    local word = messages.may_end(m, fence)
    if word == 'ok' then
      messages.finished(t, box, id, m, 'r')
      lines[#lines + 1] = id .. who .. m[MSG_FENCE]
      ended, seen[id] = ended + 1, m[MSG_FENCE]
    end
    answers[i] = word
  end
end
if ended > 0 then
  messages.trim(t, box, ended)
  messages.due(box, t.ms + MSG_VISIT_MS)
  messages.finish(t)
end
return { 'ok', t.ms, concat(answers, ',') }
