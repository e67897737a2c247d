-- End a wait for locks: what was handed over meanwhile is taken up, or given on.
--
-- With `keep` 1 the caller still wants it, as when its time ran out just then. With 0 all
-- that the operation did is undone, should its reply have been lost; names are its set.
--
-- KEYS    format
-- ARGV    owner:str, operation:str, keep:int, count:int, names:rows
-- RETURNS ok resource owner agent until | taken now_ms deadline fences | gone | no_namespace | newer_format
-- EVENTS  resource:acquired, resource:released
-- REPEAT  by operation id
-- FLAGS   allow-oom
-- include lock

local t, refusal = open(format_key, now)
if not t then return refusal end
local w, done, had, until_ms = locks.wait_of(t, owner), {}, {}, 0
for i = 1, count do
  local l = locks.resource(t, ARGV[names_at + i - 1])
  local h = locks.holding(l, owner)
  if h and h.op == operation and h.mark == '' then
    done[#done + 1], had[#had + 1], until_ms = l, h.fence, math.max(until_ms, h.deadline)
  end
end
if w and w.op ~= operation then w = nil end
if keep == 1 and #done == count and not w then return { 'taken', t.ms, int(until_ms), concat(had, ',') } end
if not w and (keep == 1 or #done == 0) then return { 'gone' } end
locks.touch(t, owner)

-- writes
t.by = w and w.agent or ''
local fences = keep == 1 and w and w.state == 'g' and locks.take_up(t, w)
local way = w and not fences and locks.in_the_way(t, w) or { '', '', '', '' }
if keep == 0 then
  for i = 1, #done do locks.release(t, done[i], owner, 0, operation .. '-') end
end
if w and not fences then locks.end_wait(t, w, 'lapsed') end
locks.close(t)
if fences then return { 'taken', t.ms, int(t.ms + w.lease), concat(fences, ',') } end -- an outcome
return { 'ok', unpack_values(way) }
