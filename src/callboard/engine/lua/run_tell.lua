-- Put something that is to be known of a run into its journal, once for each key.
--
-- `kind` is one word, `value` JSON without line breaks.
--
-- KEYS    format
-- ARGV    run:str, by:str, kind:str, key:str, value:str
-- RETURNS ok | replayed | run_not_found | no_namespace | newer_format
-- EVENTS  run:told
-- REPEAT  by key
-- include run

local t, refusal = open(format_key, now)
if not t then return refusal end
local r = read_run(t, run)
if not r then return { 'run_not_found' } end
if call('SISMEMBER', r.keys.told, key) == 1 then return { 'replayed' } end

-- writes
t.by = by
call('SADD', r.keys.told, key)
fact(t, 'run:told', run, run, r.phase, '', 0, kind .. '|' .. value)
finish(t)
return { 'ok' }
