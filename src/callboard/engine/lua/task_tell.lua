-- Tell whoever follows the board what the holder says as it works; the event is all there is.
--
-- `what` is token, tool or log; `value` is JSON in one line. The fact's extra is both, as
-- `token|"Hel"`.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, id:str, fence:str, what:str, value:str
-- RETURNS ok | cancel | lease_lost | task_not_found | no_namespace | newer_format
-- EVENTS  task:output
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
local no = stale(r, fence)
if no then return { no } end
touch_events(b)

-- writes
t.by = instance
fact(t, 'task:output', b.name, id, WORDS[r[STATUS]], r[HOLDER], fence, what .. '|' .. value)
finish(t)
return { has(r, 'C') and 'cancel' or 'ok' }
