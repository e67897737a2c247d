-- Decide what is due: ballots and referrals past their deadline, conflicts that nobody decided
-- in 30 days; and remove what ended 7 days ago, or is more than 10,000. At most `limit` of them.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok more decided removed | no_namespace | newer_format
-- EVENTS  conflict:undecided, conflict:resolved, conflict:removed, context:updated, task:assigned, task:released, task:completed, resource:forced, resource:released, resource:acquired
-- REPEAT  by state
-- FLAGS   allow-oom
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = conflict_keys(t.prefix, '')
local ids = call('ZRANGEBYSCORE', keys.due, '-inf', t.ms, 'LIMIT', 0, limit)
local excess = call('ZCARD', keys.resolved) - CONFLICTS_KEPT_MOST
local old = excess > 0 and call('ZRANGE', keys.resolved, 0, math.min(excess, limit) - 1) or {}
if #ids == 0 and #old == 0 then return { 'ok', 0, 0, 0 } end
local due, ended, oldest = {}, {}, {}
for i = 1, #old do
  oldest[i] = conflicts.read_or_ghost(t, old[i])
  conflicts.touch_end(t, oldest[i], oldest[i].f.strategy)
end
for i = 1, #ids do
  local c = conflicts.read(t, ids[i])
  due[i] = c or false
  if c then
    if c.f.status == 'voting' then
      c.winner, c.why = conflicts.count(c, conflicts.votes(c), true)
      c.how = c.f.rule
    elseif c.f.status == 'referred' then
      c.winner, c.why, c.how = c.f.fallback, c.f.fallback_reason or 'not_decided_in_time', 'arbiter'
    end
    conflicts.touch_end(t, c, c.f.strategy or c.how or 'abandoned')
    -- Plans of one call would not know of each other: a conflict about the same is left to the next.
    local about = conflicts.subject(c)
    if c.winner then
      c.is_later = ended[about]
      c.plan = not c.is_later and conflicts.plan_or_word(t, c, c.winner)
      ended[about] = true
    end
  end
end

-- writes
t.by = 'janitor'
local decided, removed, is_left = 0, 0, #ids == limit or excess > limit
for i = 1, #ids do
  local c = due[i]
  if c == false then
    zput(t, keys.due, ids[i], false)
  elseif c.is_later then
    is_left = true
  elseif conflicts.is_resolved(c) then
    conflicts.remove(t, c)
    removed = removed + 1
  elseif c.winner then
    conflicts.settle(t, c, { winner = c.winner, strategy = c.how, reason = c.why, by = 'janitor' }, c.plan)
    decided = decided + 1
  elseif c.f.status == 'voting' or c.f.status == 'referred' then
    conflicts.leave_undecided(t, c, c.why)
    decided = decided + 1
  else
    conflicts.settle(t, c, { winner = '', strategy = 'abandoned', reason = 'nobody decided it', by = 'janitor' },
      { word = 'nothing' })
    decided = decided + 1
  end
end
for i = 1, #oldest do
  if call('ZSCORE', keys.resolved, oldest[i].id) then -- not removed above
    conflicts.remove(t, oldest[i])
    removed = removed + 1
  end
end
conflicts.finish(t)
return { 'ok', is_left and 1 or 0, decided, removed }
