-- Change fields of a context, all of them or none, if it is at the revision presented.
--
-- Rows are name, type, value: s text, i and f numbers, b, n (null), j JSON; - removes a field,
-- + adds a number to it. `whole` removes all other fields. `if_rev` is empty for any revision,
-- 0 for a context that is not there. `ttl_ms` is empty to leave the time it is kept for as it
-- is, 0 for no end; where it `slides`, each later write begins it anew. `presented` are locks
-- that must be held still, a line each of fence and resource.
--
-- KEYS    format
-- ARGV    project:str, by:str, operation:str, if_rev:str, whole:int, ttl_ms:str, slides:int, presented:str, count:int, rows:rows
-- RETURNS ok rev at_ms sums | replayed rev at_ms sums | rev_conflict rev by at_ms | lock_lost resource | context_not_found | context_full what limit | not_a_number field | no_namespace | newer_format
-- EVENTS  context:updated
-- REPEAT  by operation id
-- include context

local t, refusal = open(format_key, now)
if not t then return refusal end
local remembered = operation_key(t.prefix, operation)
local before = call('GET', remembered)
if before then
  local rev, at, sums = match(before, '^(%d+)|(%d+)|(.*)$')
  return { 'replayed', rev, at, sums }
end
local lost = contexts.unlocked(t, presented)
if lost then return { 'lock_lost', lost } end
local c = contexts.read(t, project)
if if_rev ~= '' and tonumber(if_rev) ~= c.rev then return { 'rev_conflict', int(c.rev), c.by, c.at } end
if count == 0 and whole == 0 and c.is_new then return { 'context_not_found' } end
local plan, no = contexts.plan(c, ARGV, rows_at, count, whole == 1)
if not plan then return no end
contexts.touch(t, c)

-- writes
t.by = by
local rev = contexts.write(t, c, plan, by, ttl_ms, slides == 1)
local sums = concat(plan.sums, ',')
call('SET', remembered, int(rev) .. '|' .. t.ms .. '|' .. sums, 'PX', REQUEST_KEPT_MS)
close(t)
return { 'ok', int(rev), t.ms, sums }
