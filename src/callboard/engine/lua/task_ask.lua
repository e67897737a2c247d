-- End a claim with a question: the task waits for an answer from a person or an agent.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, id:str, fence:str, question:str
-- RETURNS ok | replayed | cancelled | lease_lost | task_not_found | no_namespace | newer_format
-- EVENTS  task:input_required, task:cancelled
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
local no = stale(r, fence)
if no and has_given_up(r, fence) then return { 'replayed' } end
if no then return { no } end
touch_board(b)
touch_holders(b, { id })
touch('HLEN', b.keys.extra .. id)

-- writes
t.by = instance
leave(b, id, r)
local answer = 'ok'
if has(r, 'C') then
  cancel_task(b, id, r, 'requested')
  answer = 'cancelled'
else
  remember(b, id, r, 'question', question)
  remember(b, id, r, 'asked', tostring((tonumber(recall(b, id, 'asked')) or 0) + 1))
  hput(t, b.keys.extra .. id, 'answer', false)
  fact(t, 'task:input_required', b.name, id, 'input_required', r[HOLDER], fence)
  r[STATUS], r[SINCE] = 'q', tostring(t.ms)
  zput(t, b.keys.input, id, t.ms)
  save(b, id)
end
cascade(t)
finish(t)
return { answer }
