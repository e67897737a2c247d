-- Cancel tasks of a run that has ended, unless it was taken up again since.
--
-- KEYS    format
-- ARGV    run:str, by:str, generation:int, reason:str, count:int, ids:rows
-- RETURNS ok more answers | illegal_state phase generation | run_not_found | no_namespace | newer_format
-- ITEMS   cancelled | requested | finished | task_not_found
-- EVENTS  task:cancelled, task:cancel_requested, task:ready
-- REPEAT  by state
-- FLAGS   allow-oom
-- include cancel, run

local t, refusal = open(format_key, now)
if not t then return refusal end
local r = read_run(t, run)
if not r then return { 'run_not_found' } end
if not RUN_ENDED[r.phase] or r.generation ~= generation then
  return { 'illegal_state', r.phase, r.generation }
end
local b = r.board
touch_board(b)
local wanted = {}
for i = 1, count do wanted[i] = ARGV[ids_at + i - 1] end
touch_holders(b, wanted)

-- writes
t.by = by
local answers = {}
for i = 1, count do answers[i] = cancel_or_ask(b, wanted[i], '', reason) end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
