-- Move a run to a phase, if it stands in one of those named and in that generation.
--
-- `from` is a list with commas; `to` may be where it stands, to set fields alone. An end is
-- left by run_reopen only: it closes the run's board and lifts its pause. A leader gives the
-- fence of its lease, or 0, and is refused once another leads. A run goes on to its answer
-- when nothing else of it is unfinished. Rows are name, value; an empty value removes the
-- field.
--
-- KEYS    format
-- ARGV    run:str, by:str, operation:str, generation:int, fence:int, from:str, to:str, pairs:rows
-- RETURNS ok phase | illegal_state phase generation | lease_lost | unfinished count | run_not_found | no_namespace | newer_format
-- EVENTS  run:phase
-- REPEAT  by operation id
-- FLAGS   allow-oom
-- include run

local t, refusal = open(format_key, now)
if not t then return refusal end
local r = read_run(t, run)
if not r then return { 'run_not_found' } end
if r.operation == operation then return { 'ok', r.phase } end
local is_named = string.find(',' .. from .. ',', ',' .. r.phase .. ',', 1, true)
if not is_named or r.generation ~= generation or (RUN_ENDED[r.phase] and to ~= r.phase) then
  return { 'illegal_state', r.phase, r.generation }
end
if fence > 0 and fence < r.lead_fence then return { 'lease_lost' } end
if to == 'synthesis' and r.phase ~= to then
  local b = r.board.keys
  local left = call('HLEN', b.state) - call('ZCARD', b.done) - call('ZCARD', b.failed)
    - call('ZCARD', b.cancelled)
  if left > 0 then return { 'unfinished', left } end
end
local keep_ms = tonumber(call('HGET', r.keys.run, 'keep')) or 0
touch('ZCARD', r.keys.due)

-- writes
t.by = by
local said = { round = r.round, reason = r.reason }
for i = pairs_at, #ARGV - 1, 2 do
  local name, value = ARGV[i], ARGV[i + 1]
  said[name] = value
  hput(t, r.keys.run, name, value ~= '' and value or false)
end
hput(t, r.keys.run, 'phase', to)
hput(t, r.keys.run, 'operation', operation)
if fence > 0 then hput(t, r.keys.run, 'lead_fence', int(fence)) end
if to ~= r.phase then
  local reason = string.gsub(said.reason, '%c', ' ') -- a fact is one line
  fact(t, 'run:phase', run, run, to, '', 0, generation .. '|' .. said.round .. '|' .. reason)
end
if to ~= r.phase and RUN_ENDED[to] then
  hput(t, r.keys.run, 'ended_at', t.ms)
  zput(t, r.keys.due, run, t.ms + keep_ms)
  hput(t, r.keys.run, 'paused_at', false)
  if not r.board.is_new then
    hput(t, r.board.keys.board, 'closed', '1')
    hput(t, r.board.keys.board, 'paused', false)
  end
end
finish(t)
return { 'ok', to }
