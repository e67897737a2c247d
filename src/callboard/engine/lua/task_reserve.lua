-- Reserve a waiting task for an agent that was chosen elsewhere, if it may have it still.
--
-- The gate and the room are looked at again: `changed` says what is in the way by now.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, strategy:str, id:str, agent_id:str, take_up_ms:int, reason:str, considered:int, scores:str
-- RETURNS ok now_ms word fact | paused closed | no_namespace | newer_format
-- ITEMS   ok | changed | reserved | not_ready | kind_paused | at_limit | task_not_found
-- EVENTS  task:assigned
-- FLAGS   allow-oom
-- include place

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
if b.paused then return { 'paused', b.closed and 'closed' or '' } end
local r = load_record(b, id)
local word, fact_of_it = chooser.standing(b, r)
if word then return { 'ok', t.ms, word, fact_of_it } end
local hurdle = chooser.hurdle(b, agent_id, r[LANE], waiters_of(b))
if hurdle then return { 'ok', t.ms, 'changed', hurdle } end
touch_board(b)

-- writes
t.by = by
chooser.record(b, id, agent_id, strategy, reason, considered, scores)
chooser.take_aside(b, id, r, agent_id, t.ms + take_up_ms)
finish(t)
return { 'ok', t.ms, 'ok', '' }
