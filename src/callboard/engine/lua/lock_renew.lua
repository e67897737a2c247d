-- Push the deadlines of what an owner holds forward, where it still holds it.
--
-- A row is resource, fence; fence 0 for whatever it is. A deadline never moves backwards. An
-- overdue holder may renew while nobody else was given the resource.
--
-- KEYS    format
-- ARGV    owner:str, lease_ms:int, count:int, holdings:rows
-- RETURNS ok now_ms deadline answers | no_namespace | newer_format
-- ITEMS   ok | lock_lost
-- EVENTS  none: a renewal is not news
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include lock

local t, refusal = open(format_key, now)
if not t then return refusal end
locks.touch(t, owner)
local answers, deadline = {}, t.ms + lease_ms
for i = 1, count do locks.resource(t, ARGV[holdings_at + (i - 1) * 2]) end

-- writes
for i = 1, count do
  local l = locks.resource(t, ARGV[holdings_at + (i - 1) * 2])
  answers[i] = locks.renew(t, l, owner, tonumber(ARGV[holdings_at + (i - 1) * 2 + 1]), deadline) and 'ok'
    or 'lock_lost'
end
locks.flush(t)
close(t)
return { 'ok', t.ms, int(deadline), concat(answers, ',') }
