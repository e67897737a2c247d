-- Decide a conflict, once, and make what it is about agree in the same call.
--
-- For `optimistic` the winner is the first party whose revision is the current one of the
-- context, the task (its fence) or the lock (a fence under which it is held). While it is voted
-- on only with `force`; while it lies with an arbiter only by them, or with `force`.
--
-- KEYS    format
-- ARGV    id:str, by:str, operation:str, strategy:str, winner:str, reason:str, inputs:str, force:int
-- RETURNS ok winner enforced | replayed winner enforced | already_resolved winner strategy | conflict_not_found | conflict_busy status deadline | not_arbiter arbiter | not_a_party | nobody_is_current rev | no_value party | task_not_found | illegal_state status | agent_not_found | agent_draining status | does_not_fit missing | context_full what limit | too_many_locks most resource | no_namespace | newer_format
-- EVENTS  conflict:resolved, context:updated, task:assigned, task:released, task:completed, resource:forced, resource:released, resource:acquired
-- REPEAT  by operation id
-- FLAGS   allow-oom
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local c = conflicts.read(t, id)
if not c then return { 'conflict_not_found' } end
if conflicts.is_resolved(c) then
  if c.f.operation == operation then return { 'replayed', c.f.winner, c.f.enforced } end
  return { 'already_resolved', c.f.winner, c.f.strategy }
end
local status = c.f.status
if force == 0 and status == 'voting' then return { 'conflict_busy', status, c.f.deadline } end
if strategy == 'arbiter' and c.f.arbiter ~= by then return { 'not_arbiter', c.f.arbiter or '' } end
if force == 0 and status == 'referred' and strategy ~= 'arbiter' then
  return { 'not_arbiter', c.f.arbiter }
end
local chosen = winner
if strategy == 'optimistic' then
  local current, found = conflicts.current(t, c)
  if not found then return { 'nobody_is_current', current } end
  chosen, reason = found, 'its revision ' .. current .. ' is the current one'
end
if not c.places[chosen] then return { 'not_a_party' } end
local plan, no = conflicts.plan(t, c, chosen)
if not plan then return no end
conflicts.touch_end(t, c, strategy)

-- writes
t.by = by
conflicts.settle(t, c, { winner = chosen, strategy = strategy, reason = reason, by = by,
  inputs = inputs ~= '' and inputs or nil, operation = operation }, plan)
conflicts.finish(t)
return { 'ok', chosen, c.f.enforced }
