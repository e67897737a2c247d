-- Begin a run: what is true of it, its board with a journal, and the task of who leads it.
--
-- All or nothing. The same run again with the same team and request is left alone. Its time
-- ends `timeout_ms` from the engine's now. `lead` is one row as in task_submit, for the
-- board of leads; `document` is the team as it was then, so that nothing done to the team
-- changes the run; `keep_ms` is how long the run is kept after its end.
--
-- KEYS    format
-- ARGV    run:str, by:str, team:str, version:int, request:str, variables:str, document:str, host:str, folder:str, timeout_ms:int, keep_ms:int, concurrency:str, claims_most:str, lead_board:str, lead:rows
-- RETURNS ok | exists | run_conflict run | board_full limit waiting | too_many_lanes limit | no_namespace | newer_format
-- EVENTS  board:created, run:created, task:created, task:assigned
-- REPEAT  by id: what is there already is left alone
-- include submit, run

-- The bounds of the settings: a run keeps all of its tasks until it is deleted itself.
local FINISHED_MOST, FINISHED_FOR_MS = 100000000, 31536000000
local LEAD_POISON, LEAD_CRASHES = 10, 20 -- hosts may come and go many times in one run
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = run_keys(t.prefix, run)
local there = call('HMGET', keys.run, 'team', 'request')
if there[1] then
  if there[1] == team and there[2] == request then return { 'exists' } end
  return { 'run_conflict', run }
end
local leads, own = board(t, lead_board), board(t, run)
local rows, fresh, no = submits.check(leads, ARGV, lead_at, 1)
if no and no[1] ~= 'id_conflict' then return no end
if no or #fresh == 0 or not own.is_new then return { 'run_conflict', run } end
own.has_journal = true
touch_events(own)
touch('ZCARD', keys.all)
touch('ZCARD', keys.due)
submits.touch(leads, fresh)

-- writes
t.by = by
wake_board(own)
own.is_new = false
call('HSET', own.keys.board, 'step', own.step, 'created', t.ms, 'journal', '1',
  'finished_for', FINISHED_FOR_MS, 'dead_for', FINISHED_FOR_MS, 'finished_most', FINISHED_MOST)
if concurrency ~= '' then hput(t, own.keys.board, 'concurrency', concurrency) end
if claims_most ~= '' then hput(t, own.keys.board, 'claims_most', claims_most) end
zput(t, boards_key(t.prefix), run, t.ms)
fact(t, 'board:created', run, '', 'active', '', 0)
if leads.is_new then
  hput(t, leads.keys.board, 'poison', LEAD_POISON)
  hput(t, leads.keys.board, 'crashes', LEAD_CRASHES)
end
call('HSET', keys.run, 'team', team, 'version', version, 'request', request, 'variables', variables,
  'document', document, 'keep', keep_ms,
  'phase', 'planning', 'generation', 1, 'round', 0, 'created_at', t.ms, 'created_by', by,
  'deadline_at', t.ms + timeout_ms, 'host', host, 'folder', folder)
zput(t, keys.all, run, t.ms)
zput(t, keys.due, run, t.ms + timeout_ms + UNLED_MS)
fact(t, 'run:created', run, run, 'planning', '', 0, team .. '|' .. version)
submits.write(leads, fresh)
finish(t)
return { 'ok' }
