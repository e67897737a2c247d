-- Forget the errors recorded so far, a bounded piece a call: log, groups, counters, cascades.
--
-- Details of tasks leave with them, or by their own lifetime. With `project` it is
-- the log of that project's trainings alone.
--
-- KEYS    format
-- ARGV    project:str, by:str, limit:int
-- RETURNS ok more | no_namespace | newer_format
-- EVENTS  error:cleared
-- REPEAT  by state
-- FLAGS   allow-oom
-- include errors

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = error_keys(t.prefix)
local groups = project == '' and call('ZRANGE', keys.unique, 0, limit - 1) or {}
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
if project ~= '' then
  call('UNLINK', errors.log_of(keys, project, true))
else
  for i = 1, #groups do
    call('UNLINK', keys.group .. groups[i], unpack_values(errors.minutes_keys(t, groups[i])))
  end
  if #groups > 0 then call('ZREM', keys.unique, unpack_values(groups)) end
  local slot = floor(t.ms / CASCADE_SLOT_MS)
  for back = 0, CASCADE_SLOTS do call('UNLINK', keys.slot .. slot - back) end
  call('UNLINK', keys.log, keys.counters, keys.recent, keys.correlations, keys.announced)
end
local more = #groups == limit
if not more then fact(t, 'error:cleared', '', project, 'cleared', '', 0) end
close(t)
return { 'ok', more and 'more' or '' }
