-- Submit the task of a tick and move to the next, in one step: a tick is handled once, however
-- many there are who would.
--
-- `expected_ms` is the tick that stood there when the caller decided, under `revision`; who
-- comes later is told `moved`. `next_ms` is 0 where none is to come. Without a row (`count` 0)
-- the tick is passed over. With `overlap` 1 nothing is submitted while the task before has not
-- ended. The row is that of `task_submit`; a task of its id that is there already counts as
-- the tick's.
--
-- `expected_ms` 0 submits out of turn and moves no tick. `revision` is then a word by which
-- the call is known again; where there is a task of the row's id already, it is told `moved`.
--
-- KEYS    format
-- ARGV    name:str, by:str, revision:str, expected_ms:int, tick_ms:int, next_ms:int, overlap:int, board_name:str, count:int, tasks:rows
-- RETURNS ok outcome | moved | recurring_not_found | board_full limit waiting | too_many_lanes limit | board_closed | no_namespace | newer_format
-- EVENTS  board:created, task:created, task:assigned, recurring:fired
-- REPEAT  by state
-- include submit

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = recurring_keys(t.prefix)
local key = keys.recurrence .. name
local h = call('HMGET', key, 'revision', 'last_task', 'last_board', 'fired', 'last_error', 'triggered')
if not h[1] then return { 'recurring_not_found' } end
if expected_ms > 0 and (h[1] ~= revision or tonumber(call('ZSCORE', keys.due, name) or 0) ~= expected_ms) then
  return { 'moved' }
end
local outcome, b, fresh = count > 0 and 'fired' or 'skipped', nil, {}
if count > 0 and overlap == 1 and h[2] then
  local before = load_record(board(t, h[3]), h[2])
  if before and not FINISHED[before[STATUS]] then outcome = 'overlapped' end
end
if outcome == 'fired' then
  b = board(t, board_name)
  local _, new, no = submits.check(b, ARGV, tasks_at, count)
  if no and no[1] ~= 'id_conflict' then return no end
  fresh = new or fresh
  if #fresh == 0 then outcome = 'exists' end
end
if expected_ms == 0 and outcome == 'exists' then
  return h[6] == revision and { 'ok', 'fired' } or { 'moved' }
end
touch('ZCARD', keys.due)
touch('XLEN', events_key(t.prefix))
if #fresh > 0 then submits.touch(b, fresh) end

-- writes
t.by = by
if #fresh > 0 then submits.write(b, fresh) end
if expected_ms > 0 then
  zput(t, keys.due, name, next_ms > 0 and next_ms)
  if h[5] then
    hput(t, key, 'last_error', false)
    hput(t, key, 'last_error_code', false)
  end
else
  hput(t, key, 'triggered', revision)
end
hput(t, key, 'last_tick', tick_ms)
hput(t, key, 'last_outcome', outcome)
local id = count > 0 and ARGV[tasks_at] or ''
if outcome == 'fired' or outcome == 'exists' then
  hput(t, key, 'last_task', id)
  hput(t, key, 'last_board', board_name)
end
if outcome == 'fired' then hput(t, key, 'fired', (tonumber(h[4]) or 0) + 1) end
fact(t, 'recurring:fired', '', name, outcome, '', 0, id .. '|' .. tick_ms)
cascade(t)
finish(t)
return { 'ok', outcome }
