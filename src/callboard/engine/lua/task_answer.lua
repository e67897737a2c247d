-- Answer a task's question: it may be claimed again, preferably by its last holder, under
-- a new fence and without a failure spent.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, id:str, answer:str, prefer_ms:int
-- RETURNS ok | illegal_state status | task_not_found | no_namespace | newer_format
-- EVENTS  task:answered, task:assigned
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
if not r then return { 'task_not_found' } end
if r[STATUS] ~= 'q' then return { 'illegal_state', WORDS[r[STATUS]] } end
touch_board(b)
local last = agent_of(r)

-- writes
t.by = by
leave(b, id, r)
remember(b, id, r, 'answer', answer)
remember(b, id, r, 'answer:' .. (recall(b, id, 'asked') or '1'), answer)
r[SINCE] = tostring(t.ms)
offer_to(b, id, r, last, prefer_ms)
fact(t, 'task:answered', b.name, id, WORDS[r[STATUS]], r[HOLDER], r[FENCE])
save(b, id)
finish(t)
return { 'ok' }
