-- Begin the next generation of a run that has ended, with the task of who leads it.
--
-- It stands in execution again, its board is open, and its time ends `timeout_ms` from the
-- engine's now. `lead` is one row as in task_submit, for the board of leads; behind it stand
-- the ids of `count` tasks of the run, which are put back in the same step: so nobody leads
-- it without them, and what ended the last generation cannot cancel them.
--
-- KEYS    format
-- ARGV    run:str, by:str, operation:str, generation:int, timeout_ms:int, lead_board:str, count:int, lead:rows
-- RETURNS ok generation more answers | illegal_state phase generation | run_not_found | run_conflict run | board_full limit waiting | too_many_lanes limit | no_namespace | newer_format
-- ITEMS   ok | blocked | task_not_found | illegal_state | unique_conflict | dependency_failed
-- EVENTS  board:created, run:reopened, task:created, task:revived, task:ready, task:assigned
-- REPEAT  by operation id
-- include submit, run, revive

local t, refusal = open(format_key, now)
if not t then return refusal end
local r = read_run(t, run)
if not r or r.board.is_new then return { 'run_not_found' } end -- or it is being removed
if r.operation == operation then return { 'ok', r.generation, 'more', '' } end
if not RUN_ENDED[r.phase] or r.generation ~= generation then
  return { 'illegal_state', r.phase, r.generation }
end
local leads = board(t, lead_board)
touch_board(r.board)
local rows, fresh, no = submits.check(leads, ARGV, lead_at, 1)
if no and no[1] ~= 'id_conflict' then return no end
if no or #fresh == 0 then return { 'run_conflict', run } end
submits.touch(leads, fresh)
touch('ZCARD', r.keys.due)

-- writes
t.by = by
hput(t, r.keys.run, 'phase', 'execution')
hput(t, r.keys.run, 'generation', generation + 1)
hput(t, r.keys.run, 'deadline_at', t.ms + timeout_ms)
hput(t, r.keys.run, 'operation', operation)
hput(t, r.keys.run, 'ended_at', false)
zput(t, r.keys.due, run, t.ms + timeout_ms + UNLED_MS)
hput(t, r.keys.run, 'reason', false)
hput(t, r.board.keys.board, 'closed', false)
unpause_run(t, r)
fact(t, 'run:reopened', run, run, 'execution', '', 0, tostring(generation + 1))
r.board.closed, r.board.paused = false, t.paused
t.cascade = {}
local answers = {}
for i = 1, count do answers[i] = revive(r.board, ARGV[lead_at + ROW + i - 1], '', '', i) end
submits.write(leads, fresh)
cascade(t)
finish(t)
return { 'ok', generation + 1, t.more and 'more' or '', concat(answers, ',') }
