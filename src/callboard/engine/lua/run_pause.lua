-- Pause a run, or go on with it: its board, and the clock of its time, stand still meanwhile.
--
-- `on` is 1 to pause. What holds already is left alone.
--
-- KEYS    format
-- ARGV    run:str, by:str, on:int
-- RETURNS ok | illegal_state phase generation | run_not_found | no_namespace | newer_format
-- EVENTS  run:paused, run:unpaused
-- REPEAT  by state
-- FLAGS   allow-oom
-- include run

local t, refusal = open(format_key, now)
if not t then return refusal end
local r = read_run(t, run)
if not r then return { 'run_not_found' } end
if on == 1 and RUN_ENDED[r.phase] then return { 'illegal_state', r.phase, r.generation } end
if (on == 1) == (r.paused_at ~= nil) then return { 'ok' } end
touch('ZCARD', r.keys.due)

-- writes
t.by = by
if on == 1 then
  hput(t, r.keys.run, 'paused_at', t.ms)
  zput(t, r.keys.due, run, false)
  if not r.board.is_new then hput(t, r.board.keys.board, 'paused', '1') end
  fact(t, 'run:paused', run, run, r.phase, '', 0)
else
  local deadline = r.deadline_at + t.ms - r.paused_at
  hput(t, r.keys.run, 'deadline_at', deadline)
  zput(t, r.keys.due, run, deadline + UNLED_MS)
  unpause_run(t, r)
  fact(t, 'run:unpaused', run, run, r.phase, '', 0)
end
finish(t)
return { 'ok' }
