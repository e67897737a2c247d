-- Take a resource from whoever holds it, and put a new fence above theirs.
--
-- With an owner only from that one. The reason stands in the event.
--
-- KEYS    format
-- ARGV    resource:str, owner:str, by:str, reason:str
-- RETURNS ok fence owners | lock_not_found | no_namespace | newer_format
-- EVENTS  resource:forced, resource:released, resource:acquired
-- FLAGS   allow-oom
-- include lock

local t, refusal = open(format_key, now)
if not t then return refusal end
local l, owners = locks.resource(t, resource), {}
for holder in pairs(l.raw) do
  if owner == '' or owner == holder then owners[#owners + 1] = holder end
end
if #owners == 0 then return { 'lock_not_found' } end
table.sort(owners)
locks.touch(t, owners[1])

-- writes
t.by = by
local fence = int(take_fences(t, 1))
for i = 1, #owners do
  local h = locks.holding(l, owners[i])
  fact(t, 'resource:forced', '', resource, 'forced', owners[i], fence, h.agent .. '|' .. reason)
  locks.drop(t, l, owners[i], 'forced')
end
locks.close(t)
return { 'ok', fence, owners }
