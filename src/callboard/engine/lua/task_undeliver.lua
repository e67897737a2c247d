-- Take back what could not be pushed to agents: unharmed, to be dispatched again after a
-- delay; or, at the last of `most` deliveries, as a failed attempt, which may be retried.
--
-- The delay doubles with each delivery from `delay_ms` up to `delay_most_ms`, and is cut to
-- between half and all of it. An agent to which `rest_after` deliveries failed in a row rests:
-- nothing is pushed to it for `rest_ms`, doubled each time it fails again, up to
-- `rest_most_ms`. One that asked for it is there, and only has no time: it rests at once and
-- for as long as it asked, neither doubled nor counted, and the delivery does not count against
-- the task, which comes to others first and waits longer where that has happened often. A row is id, fence, error (JSON), unit (0 to 1, the jitter), for how long the agent
-- wants to rest (ms, 0 for nothing said), and what is tracked of the error: its mark (empty:
-- nothing) and its message.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, most:int, delay_ms:int, delay_most_ms:int, rest_after:int, rest_ms:int, rest_most_ms:int, count:int, deliveries:rows
-- RETURNS ok more answers | no_namespace | newer_format
-- ITEMS   ok | retry_scheduled | failed | cancelled | replayed | lease_lost | task_not_found
-- EVENTS  task:released, task:retry_scheduled, task:failed, task:cancelled, task:ready, task:assigned, error:cascade
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local ROW_VALUES = 7
local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)
local ids, agents = {}, {}
for i = 1, count do ids[i] = ARGV[deliveries_at + (i - 1) * ROW_VALUES] end
touch_holders(b, ids)
for i = 1, count do
  local r = b.records[ids[i]]
  local id = r and HELD[r[STATUS]] and agent_of(r)
  if id and agents[id] == nil then
    agents[id] = call('HMGET', agent_key(t.prefix, id), 'agent_id', 'undelivered')
  end
end

-- Once more failed; those that were under way as it began to rest count with it. An agent
-- that asks has answered, so nothing has failed in a row; of several the longest holds.
local function count_against(id, asked_ms)
  local h = agents[id]
  if not (h and h[1]) then return end
  local failed, until_ms, is_tried = match(h[2] or '0|0|0', '^(%d+)|(%d+)|(%d)$')
  failed, until_ms = tonumber(failed) or 0, tonumber(until_ms) or 0
  if asked_ms > 0 then
    if failed > 0 or is_tried == '1' then until_ms = 0 end
    failed, until_ms = 0, math.max(until_ms, t.ms + math.min(rest_most_ms, asked_ms))
  elseif until_ms > 0 and is_tried ~= '1' then
    return
  else
    failed, until_ms = failed + 1, 0
    if failed >= rest_after then
      until_ms = t.ms + math.min(rest_most_ms, rest_ms * 2 ^ math.min(failed - rest_after, 30))
    end
  end
  h[2] = failed .. '|' .. int(until_ms) .. '|0'
  hput(t, agent_key(t.prefix, id), 'undelivered', h[2])
end

-- writes
t.by = by
local answers = {}
for i = 1, count do
  local at = deliveries_at + (i - 1) * ROW_VALUES
  local id, fence, unit = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 3])
  local r = load_record(b, id)
  local no = stale(r, fence)
  if no and has_given_up(r, fence) then
    answers[i] = 'replayed'
  elseif no then
    answers[i] = no
  else
    local asked_ms = tonumber(ARGV[at + 4])
    count_against(agent_of(r), asked_ms)
    b.returned = b.returned + 1
    local tries = tonumber(has(r, 'E') and recall(b, id, 'undelivered') or '0') or 0
    if asked_ms == 0 then tries = tries + 1 end
    if asked_ms == 0 and tries >= most then
      remember(b, id, r, 'undelivered', false)
      errors.note_task(b, id, r, ARGV[at + 5], ARGV[at + 6])
      retry_or_bury(b, id, r, ARGV[at + 2], true, unit)
      answers[i] = r[STATUS] == 's' and 'retry_scheduled' or WORDS[r[STATUS]]
    else
      if asked_ms == 0 then remember(b, id, r, 'undelivered', tries) end
      breakers.end_claim(t, r, 'failure')
      chooser.failed(t, agent_of(r), kind_of(r[LANE]))
      leave(b, id, r)
      local delay = math.min(delay_most_ms, delay_ms * 2 ^ math.max(0, math.min(tries - 1, 30)))
      if asked_ms > 0 then delay = math.max(delay, turned_down.note(b, id, r, agent_of(r))) end
      answers[i] = release(b, id, r, floor(delay * (1 + unit) / 2))
    end
  end
end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
