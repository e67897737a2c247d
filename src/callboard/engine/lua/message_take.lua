-- Give an agent the first messages of its inbox, each under a fence and for a time.
--
-- Best priority first, in the order sent within a priority; one that came back stands where
-- it stood. Who does not acknowledge in time loses it to the next taker. At most `limit`
-- messages and 4 MiB; `more` says that the call met expired ones and should be repeated.
-- Three values each: id, fence|deliveries|sent_at|expires|marks|thread|most, body.
--
-- A request id repeats the answer for as long as the lease, ten minutes at most, to the same
-- taker: what it holds still of that.
--
-- KEYS    format
-- ARGV    agent:str, taker:str, limit:int, lease_ms:int, owner:str, request:str
-- RETURNS ok now_ms until_ms more messages | replayed now_ms until_ms more messages | request_conflict request | no_namespace | newer_format
-- EVENTS  message:received, message:expired, message:released, message:dead
-- FLAGS   allow-oom
-- include message, waits

local REFRESHED = 20
local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
touch('XLEN', events_key(t.prefix))
local keys, caller = box.keys, agent .. '|' .. taker
local before = request ~= '' and call('GET', request_key(t.prefix, request))
if before then
  local by, first, count, taken_until = match(before, '^(.*)|(%d+)|(%d+)|(%d+)$')
  if by ~= caller then return { 'request_conflict', request } end
  return { 'replayed', t.ms, taken_until, '', messages.taken_again(box, first, count, taken_until) }
end
if owner ~= '' then waits.touch(t, owner) end

-- writes
t.by = taker == '' and agent or agent .. '/' .. taker
messages.use(t, box)
local changed = messages.refresh(t, box, REFRESHED)
if changed then messages.flush(t) end
local ids = call('ZRANGE', keys.waiting, 0, limit - 1)
local found, bytes, more = {}, 0, ''
local until_ms, now_ms = t.ms + lease_ms, int(t.ms)
if #ids > 0 then
  local fence = take_fences(t, #ids)
  local held_by = owner == '' and taker or taker .. '|' .. owner
  local states = call('HMGET', keys.state, unpack_values(ids))
  local kept, gone = messages.list(t.added, keys.leases), messages.list(t.removed, keys.waiting)
  local stored = messages.list(t.stored, keys.state)
  local lines = lines_of(t, 'message:received', '')
  local who = '|delivered|' .. t.by .. '|'
  for i = 1, #ids do
    local id, line = ids[i], states[i]
    local score, deliveries, expires, most, marks, sender = match(line or '', messages.waiting)
    local h = score and call('HMGET', keys.message .. id, 'body', 'at', 'thread')
    if not h or not h[1] then
      -- Its state or body was removed by somebody else: there is nothing to give.
      gone[#gone + 1] = id
      more = 'more'
    elseif expires ~= '' and tonumber(expires) <= t.ms then
      messages.expire(t, box, id, messages.parse(line))
      more = 'more'
    else
      bytes = bytes + #h[1]
      if bytes > MSG_BYTES_MOST and #found > 0 then
        more = 'more'
        break
      end
      local mine = int(fence + i - 1)
      deliveries = deliveries + 1
      local n = #kept
      kept[n + 1], kept[n + 2] = until_ms, id
      n = #stored
      stored[n + 1], stored[n + 2] = id, 'd|' .. score .. '|' .. deliveries .. '|' .. mine .. '|'
        .. now_ms .. '|' .. expires .. '|' .. most .. '|' .. marks .. '|' .. sender .. '|' .. held_by
      if owner ~= '' and marks ~= '' then waits.taken(t, id, owner) end
      gone[#gone + 1] = id
      lines[#lines + 1] = id .. who .. mine .. '|' .. sender .. '|' .. deliveries
      n = #found
      found[n + 1], found[n + 3] = id, h[1]
      found[n + 2] = mine .. '|' .. deliveries .. '|' .. h[2] .. '|' .. expires .. '|' .. marks
        .. '|' .. (h[3] or '') .. '|' .. most
    end
  end
  if #found > 0 then
    messages.due(box, until_ms)
    if request ~= '' then
      call('SET', request_key(t.prefix, request), caller .. '|' .. int(fence) .. '|' .. #ids .. '|'
        .. int(until_ms), 'PX', math.min(lease_ms, MSG_REQUEST_MS))
    end
  end
end
if changed or #ids > 0 or next(t.hashes) then messages.finish(t) end
return { 'ok', t.ms, until_ms, more, found }
