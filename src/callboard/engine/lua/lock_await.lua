-- Say that these waits are still meant, and take up what was handed over; each answers for itself.
--
-- A row is owner and operation. Without an operation it only asks whether the owner, parked
-- for a task, became a victim. A wait that has lasted two seconds reserves its set here.
-- `more` says that a sweep has something to do, which who waits need not leave to a janitor.
--
-- KEYS    format
-- ARGV    count:int, rows:rows
-- RETURNS ok now_ms more answers | no_namespace | newer_format
-- ITEMS   waiting | ok deadline fences | deadlock_victim incident | gone
-- EVENTS  resource:acquired, resource:released, deadlock:detected
-- REPEAT  by operation id
-- FLAGS   allow-oom
-- include waits

local t, refusal = open(format_key, now)
if not t then return refusal end
local s, answers = locks.of(t), {}
waits.touch(t)
local owners, missing = {}, {}
for i = 1, count do owners[i] = ARGV[rows_at + (i - 1) * 2] end
for i = 1, count do
  missing[i * 2 - 1], missing[i * 2] = owners[i], owners[i] .. '\nv'
end
local raws = call('HMGET', s.keys.waits, unpack_values(missing))
for i = 1, count do
  local raw = raws[i * 2 - 1]
  if s.waits[owners[i]] == nil then s.waits[owners[i]] = raw and locks.parse_wait(owners[i], raw) or false end
end

-- writes
for i = 1, count do
  local owner, op, verdict = owners[i], ARGV[rows_at + (i - 1) * 2 + 1], raws[i * 2]
  local w = s.waits[owner]
  if verdict then
    waits.told(t, owner)
    answers[i] = 'deadlock_victim ' .. verdict
  elseif op == '' then
    answers[i] = 'waiting'
  elseif w and w.op == op and w.state == 'g' then
    local fences = locks.take_up(t, w)
    if fences then
      local others = waits.of(t, owner)
      if others.task or #others.requests > 0 then waits.check(t, owner) end
      answers[i] = 'ok ' .. int(t.ms + w.lease) .. ' ' .. concat(fences, ' ')
    else
      locks.take_back(t, w, 'lapsed')
      answers[i] = 'gone'
    end
  elseif w and w.op == op and locks.is_waiting(w) then
    answers[i] = 'waiting'
    zput(t, s.keys.waits_due, owner, int(locks.wait_until(t, w)))
    if w.state == 'w' and t.now - w.since >= LOCK_RESERVES_US then
      local incident = waits.reserve(t, w)
      if incident then
        waits.told(t, owner)
        answers[i] = 'deadlock_victim ' .. incident
      end
    end
  else -- ended, or just now taken from it as the victim of another row
    answers[i] = 'gone'
  end
end
locks.close(t)
local more = t.has_locks_left or call('ZCARD', s.keys.unchecked) + call('ZCARD', s.keys.pending)
  + call('ZCOUNT', s.keys.due, '-inf', t.ms) + call('ZCOUNT', s.keys.waits_due, '-inf', t.ms)
  + call('ZCOUNT', s.keys.forced, '-inf', t.ms) > 0
return { 'ok', t.ms, more and 'more' or '', concat(answers, ',') }
