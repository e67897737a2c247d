-- Record failed attempts under their fences: a retry after a delay, or a dead letter.
--
-- A row is id, fence, error (JSON), retryable (1 or 0), unit (0 to 1, the jitter), delay_ms
-- (empty: by the task's policy), and
-- what is tracked of the error: its mark (empty: nothing) and its message.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, count:int, failures:rows
-- RETURNS ok more answers | no_namespace | newer_format
-- ITEMS   retry_scheduled | failed | cancelled | replayed | lease_lost | task_not_found
-- EVENTS  task:retry_scheduled, task:failed, task:cancelled, task:ready, task:assigned, error:cascade
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local ROW_VALUES = 8
local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_board(b)
local ids = {}
for i = 1, count do ids[i] = ARGV[failures_at + (i - 1) * ROW_VALUES] end
touch_holders(b, ids)

-- writes
t.by = instance
local answers = {}
for i = 1, count do
  local at = failures_at + (i - 1) * ROW_VALUES
  local id, fence = ARGV[at], ARGV[at + 1]
  local r = load_record(b, id)
  local no = stale(r, fence)
  if no and has_given_up(r, fence) then
    answers[i] = 'replayed'
  elseif no then
    answers[i] = no
  else
    errors.note_task(b, id, r, ARGV[at + 6], ARGV[at + 7])
    retry_or_bury(b, id, r, ARGV[at + 2], ARGV[at + 3] == '1', tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]))
    answers[i] = r[STATUS] == 's' and 'retry_scheduled' or WORDS[r[STATUS]]
  end
end
cascade(t)
finish(t)
return { 'ok', t.more and 'more' or '', concat(answers, ',') }
