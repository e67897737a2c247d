-- Housekeeping of locks, a bounded piece at a time: what is overdue goes to who is next.
--
-- Leases that ran out, hand-overs not taken up, dead waiters, victims that keep what the
-- cycle needs, and checks that met their bound.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok more | no_namespace | newer_format
-- EVENTS  resource:released, resource:acquired, deadlock:detected
-- REPEAT  by state
-- FLAGS   allow-oom
-- include waits

local t, refusal = open(format_key, now)
if not t then return refusal end
local s = locks.of(t)
waits.touch(t)
local function due(key) return call('ZRANGEBYSCORE', key, '-inf', t.ms, 'LIMIT', 0, limit, 'WITHSCORES') end
local leases, ended, forced = due(s.keys.due), due(s.keys.waits_due), due(s.keys.forced)
local pending, unchecked = call('ZRANGE', s.keys.pending, 0, limit - 1), call('ZRANGE', s.keys.unchecked, 0, 0)
local is_full = #leases == limit * 2 or #ended == limit * 2 or #forced == limit * 2 or #pending == limit
if #leases + #ended + #forced + #pending + #unchecked == 0 then return { 'ok', '' } end

-- writes
for i = 1, #leases, 2 do
  local name, owner = match(leases[i], '^([^\n]*)\n(.*)$')
  local l = locks.resource(t, name)
  local h = locks.holding(l, owner)
  if not h then
    zput(t, s.keys.due, leases[i], false)
  elseif is_over(t, h.deadline) then
    locks.drop(t, l, owner, 'expired')
  end
end
for i = 1, #ended, 2 do
  if is_over(t, tonumber(ended[i + 1])) then waits.lapse(t, ended[i]) end
end
for i = 1, #forced, 2 do waits.force(t, forced[i]) end
for i = 1, #pending do
  zput(t, s.keys.pending, pending[i], false)
  s.freed[#s.freed + 1] = pending[i]
end
locks.wake(t)
if unchecked[1] then
  zput(t, s.keys.unchecked, unchecked[1], false)
  waits.check(t, unchecked[1], WAITS_VISITS_SWEEP)
end
locks.close(t)
return { 'ok', (is_full or t.has_locks_left or #unchecked > 0) and 'more' or '' }
