-- How many tasks wait to be claimed, by their priority: counted, or of very many estimated.
--
-- From 30 on a priority counts as urgent, from 20 as critical, from 10 as high, from 0 as
-- normal, below as low. Up to `most` tasks are counted one by one; of more, so many are drawn
-- by chance from all lanes, from each by its share, and each stands for its share.
--
-- KEYS    format
-- ARGV    board_name:str, most:int
-- RETURNS ok is_estimate urgent critical high normal low | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include record

local AT_ONCE = 500
-- Of a record the priority alone.
local TENTH = '^%a|%d*|%d*|[^|]*|[^|]*|%d*|%d*|%d*|[^|]*|(%-?%d+)|'
local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local lanes, sizes, total = call('ZRANGE', b.keys.heads, 0, -1), {}, 0
for i = 1, #lanes do
  sizes[i] = call('ZCARD', b.keys.lane .. lanes[i])
  total = total + sizes[i]
end
local is_estimate, sums = total > most, { 0, 0, 0, 0, 0 }

local function count(ids, weight)
  for from = 1, #ids, AT_ONCE do
    local to = math.min(from + AT_ONCE - 1, #ids)
    local raws = call('HMGET', b.keys.state, unpack_values(ids, from, to))
    for i = 1, #raws do
      local priority = raws[i] and tonumber(match(raws[i], TENTH)) or 0
      local band = priority >= 30 and 1 or priority >= 20 and 2 or priority >= 10 and 3 or priority >= 0 and 4 or 5
      sums[band] = sums[band] + weight
    end
  end
end

for i = 1, #lanes do
  local key, size = b.keys.lane .. lanes[i], sizes[i]
  if is_estimate and size > 0 then
    local drawn = call('ZRANDMEMBER', key, math.ceil(size * most / total))
    count(drawn, size / #drawn)
  else
    count(call('ZRANGE', key, 0, -1), 1)
  end
end
for i = 1, #sums do sums[i] = floor(sums[i] + 0.5) end
return { 'ok', is_estimate and 1 or 0, sums[1], sums[2], sums[3], sums[4], sums[5] }
