-- Keep the holder's progress or partial result with the task; the last one wins.
--
-- `field` is `progress` or `partial`; the value is JSON.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, id:str, fence:str, field:str, value:str
-- RETURNS ok | cancel | lease_lost | task_not_found | no_namespace | newer_format
-- EVENTS  task:progress
-- REPEAT  by fence
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
local no = stale(r, fence)
if no then return { no } end
touch_events(b)
touch('HLEN', b.keys.extra .. id)

-- writes
t.by = instance
remember(b, id, r, field, value)
save(b, id)
fact(t, 'task:progress', b.name, id, WORDS[r[STATUS]], r[HOLDER], fence, field)
finish(t)
return { has(r, 'C') and 'cancel' or 'ok' }
