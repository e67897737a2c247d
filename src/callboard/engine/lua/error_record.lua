-- Record errors: logged, counted and grouped in one step, and a cascade told where they make one.
--
-- A row is mark (as include/errors has it), message, project, task, agent, component, stack
-- (JSON, or empty), and 1 where it belongs into the log of the project's trainings. Counts
-- are of the group, with the whole call, and 1 behind a colon where nobody had seen it.
--
-- KEYS    format
-- ARGV    operation:str, by:str, count:int, reports:rows
-- RETURNS ok counts | no_namespace | newer_format
-- EVENTS  error:cascade
-- REPEAT  by operation id
-- include errors

local ROW_VALUES = 8
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, counts = error_keys(t.prefix), {}
local remembered = operation_key(t.prefix, operation)
if operation ~= '' and call('EXISTS', remembered) == 1 then
  for i = 1, count do
    local fingerprint = match(ARGV[reports_at + (i - 1) * ROW_VALUES], '^%x+')
    counts[i] = (call('HGET', keys.group .. fingerprint, 'count') or '0') .. ':0'
  end
  return { 'ok', concat(counts, ',') }
end
errors.touch(t)
for i = 1, count do
  local at = reports_at + (i - 1) * ROW_VALUES
  errors.touch_one(t, ARGV[at + 2], ARGV[at + 3], ARGV[at], ARGV[at + 7] == '1')
end

-- writes
t.by = by
for i = 1, count do
  local at = reports_at + (i - 1) * ROW_VALUES
  errors.note(t, { message = ARGV[at + 1], project = ARGV[at + 2], task = ARGV[at + 3],
    agent = ARGV[at + 4], component = ARGV[at + 5], stack = ARGV[at + 6],
    training = ARGV[at + 7] == '1' }, ARGV[at])
end
local groups = errors.write(t)
for i = 1, count do
  local group = groups[match(ARGV[reports_at + (i - 1) * ROW_VALUES], '^%x+')]
  counts[i] = group.count .. ':' .. (group.is_new and '1' or '0')
end
if operation ~= '' then call('SET', remembered, '1', 'PX', ERROR_OPERATION_KEPT_MS) end
close(t)
return { 'ok', concat(counts, ',') }
