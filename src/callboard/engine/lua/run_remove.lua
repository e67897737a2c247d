-- Forget a run that has ended; its board was removed before.
--
-- KEYS    format
-- ARGV    run:str, by:str
-- RETURNS ok | illegal_state phase generation | run_not_found | no_namespace | newer_format
-- EVENTS  run:removed
-- FLAGS   allow-oom
-- include run

local t, refusal = open(format_key, now)
if not t then return refusal end
local r = read_run(t, run)
if not r then return { 'run_not_found' } end
if not RUN_ENDED[r.phase] then return { 'illegal_state', r.phase, r.generation } end
touch('ZCARD', r.keys.all)
touch('ZCARD', r.keys.due)

-- writes
t.by = by
call('DEL', r.keys.run, r.keys.told)
zput(t, r.keys.all, run, false)
zput(t, r.keys.due, run, false)
fact(t, 'run:removed', run, run, r.phase, '', 0)
finish(t)
return { 'ok' }
