-- Give claims back unharmed, at once or after a delay; no failure or crash is counted.
--
-- A row is id, fence, delay_ms (0: at once). What was pushed to its agent comes to others
-- first, and waits where that has happened often; not so at a delay of -1, with which those who
-- push it stop: the agent had no say.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, count:int, claims:rows
-- RETURNS ok more answers | no_namespace | newer_format
-- ITEMS   ok | cancelled | replayed | lease_lost | task_not_found
-- EVENTS  task:released, task:cancelled, task:assigned
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)
local ids = {}
for i = 1, count do ids[i] = ARGV[claims_at + (i - 1) * 3] end
touch_holders(b, ids)

-- writes
t.by = instance
local answers = {}
for i = 1, count do
  local at = claims_at + (i - 1) * 3
  local id, fence, delay = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local r = load_record(b, id)
  local no = stale(r, fence)
  if no and has_given_up(r, fence) then
    answers[i] = 'replayed'
  elseif no then
    answers[i] = no
  else
    leave(b, id, r)
    answers[i] = release(b, id, r, delay < 0 and 0 or math.max(delay, turned_down.by_holder(b, id, r)))
  end
end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
