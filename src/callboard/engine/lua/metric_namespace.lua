-- What is true of agents, locks, messages, conflicts and breakers, each from its own structures.
--
-- Of more than `agents_most` agents, and 200 locks or inboxes, the rest is not looked at.
-- Rows of agents are type|1 where it may claim|tasks held|capacity.
--
-- KEYS    format
-- ARGV    agents_most:int
-- RETURNS ok now_ms counts agents | no_namespace | newer_format
-- EVENTS  none: a read
-- FLAGS   no-writes
-- include metrics

local SEEN = 200
local t, refusal = open(format_key, now)
if not t then return refusal end
local prefix = t.prefix

local agents, ids = {}, call('ZRANGE', agents_known_key(prefix), 0, agents_most - 1)
for i = 1, #ids do
  local h = call('HMGET', agent_key(prefix, ids[i]), 'profile', 'claim_limit')
  agents[i] = match(h[1] or '', '^[^;]*') .. '|' .. call('SISMEMBER', agents_active_key(prefix), ids[i]) .. '|'
    .. call('ZCARD', held_key(prefix, ids[i])) .. '|' .. (h[2] or '0')
end

local keys, locked, held_ms, holdings = lock_keys(prefix), 0, 0, 0
local names = call('ZRANGE', keys.all, 0, SEEN - 1)
for i = 1, #names do
  local key, has_holder = keys.lock .. names[i], false
  local scanned = call('HSCAN', key, '0', 'COUNT', SEEN)[2]
  for at = 1, #scanned, 2 do
    local since = scanned[at] ~= '~' and match(scanned[at + 1], '^[^|]*|[^|]*|%d+|%d+|%d+|%d+|(%d+)|')
    if since then
      has_holder, holdings = true, holdings + 1
      held_ms = held_ms + math.max(t.ms - tonumber(since), 0)
    end
  end
  if has_holder then locked = locked + 1 end
end
local waiting, owners = 0, call('ZRANGE', keys.waits_due, 0, METRIC_AGENTS_MOST - 1)
for i = 1, #owners do
  if not string.find(owners[i], '\n', 1, true) then waiting = waiting + 1 end
end

local boxes, read, unread, waits_ms, heads = message_keys(prefix, ''), 0, 0, 0, 0
local inboxes = call('ZRANGE', boxes.all, 0, SEEN - 1)
for i = 1, #inboxes do
  local box = message_keys(prefix, inboxes[i])
  read, unread = read + call('ZCARD', box.finished), unread + call('ZCARD', box.waiting)
  local head = call('ZRANGE', box.waiting, 0, 0)[1]
  local at = head and tonumber(call('HGET', box.message .. head, 'at') or '')
  if at then heads, waits_ms = heads + 1, waits_ms + math.max(t.ms - at, 0) end
end

local conflicts, breakers = conflict_keys(prefix, ''), breaker_keys(prefix, '')
local opened, components = 0, call('ZRANGE', breakers.all, 0, SEEN - 1)
for i = 1, #components do
  local state = call('HGET', breaker_keys(prefix, components[i]).breaker, 'state')
  if state and state ~= 'closed' then opened = opened + 1 end
end
local totals = call('HMGET', metric_keys(prefix).totals, 'steals', 'trips')
return { 'ok', t.ms, {
  'agents', call('ZCARD', agents_known_key(prefix)), 'resources', call('ZCARD', keys.all),
  'locked', locked, 'lock_ms', holdings > 0 and int(held_ms / holdings) or 0, 'waiting', waiting,
  'deadlocks', call('XLEN', keys.incidents), 'sent', call('ZCARD', boxes.sent), 'read', read,
  'unread', unread, 'message_ms', heads > 0 and int(waits_ms / heads) or 0,
  'conflicts', call('ZCARD', conflicts.all), 'resolved', call('ZCARD', conflicts.resolved),
  'steals', totals[1] or 0, 'trips', totals[2] or 0, 'breakers_open', opened,
}, agents }
