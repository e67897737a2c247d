-- Whether a request was answered yet, and by what.
--
-- `state` is answered, waiting, expired, dead or read (it was acknowledged without an
-- answer, which may still come). The reply is its id and the fields of its hash. With
-- `leaves` 1 nobody waits any more, which ends the wait of the request's owner.
--
-- KEYS    format
-- ARGV    request:str, leaves:int
-- RETURNS ok now_ms state deadline_ms reply_id reply | deadlock_victim incident owner | not_a_request | message_not_found | no_namespace | newer_format
-- EVENTS  none
-- REPEAT  by state
-- FLAGS   allow-oom
-- include message, waits

local STATES = { p = 'waiting', w = 'waiting', d = 'waiting', r = 'read', x = 'expired', f = 'dead' }
local t, refusal = open(format_key, now)
if not t then return refusal end
local common = message_keys(t.prefix, '')
local h = call('HMGET', common.message .. request, 'reply', 'owner')
local reply, owner, m = h[1], h[2], nil
local names = call('HKEYS', common.message .. request)
for i = 1, #names do
  local agent = match(names[i], '^>(.+)$')
  local line = agent and call('HGET', message_keys(t.prefix, agent).state, request)
  m = m or line and messages.parse(line)
end
if not m then return { 'message_not_found' } end
if not messages.has(m, 'q') then return { 'not_a_request' } end
if owner then waits.touch(t, owner) end
local verdict = owner and not reply and waits.verdict(t, owner)

-- writes
if verdict or owner and leaves == 1 then
  if verdict then waits.told(t, owner) end
  if leaves == 1 then waits.answered(t, request) end
  close(t)
end
if verdict then return { 'deadlock_victim', verdict, owner } end -- an outcome
if reply then
  local fields = call('HGETALL', common.message .. reply)
  return { 'ok', t.ms, 'answered', m[MSG_EXPIRES], reply, fields }
end
local state = STATES[m[MSG_LETTER]]
if state ~= 'dead' and messages.is_expired(t, m) then state = 'expired' end
return { 'ok', t.ms, state, m[MSG_EXPIRES], '', {} }
