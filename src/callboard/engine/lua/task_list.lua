-- A page of the board's tasks: id and record each, and the cursor of the next page.
--
-- `statuses` are letters, empty for all. One status with an index is listed in the order of
-- that index; else the pages come in no order, each task that stays at least once.
-- The hash is read in parts of about 500 tasks. Of a part that is more than `limit` the next
-- cursor says from where it was read, its size, and the last id told: `from:size:id`.
--
-- KEYS    format
-- ARGV    board_name:str, statuses:str, kind:str, cursor:str, limit:int
-- RETURNS ok cursor tasks | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include place

local SCANNED = 500
local INDEX_OF = { b = 'blocked', a = 'reserved', q = 'input', d = 'done', f = 'failed', x = 'cancelled' }
local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)

local function is_wanted(raw)
  local r = parse(raw)
  return (statuses == '' or string.find(statuses, r[STATUS], 1, true))
    and (kind == '' or kind_of(r[LANE]) == kind)
end

local index, reply = INDEX_OF[statuses], { 'ok', '0' }
if index then
  local from = tonumber(match(cursor, '^%d+'))
  local ids = call('ZRANGE', b.keys[index], from, from + SCANNED - 1)
  local raws = #ids > 0 and call('HMGET', b.keys.state, unpack_values(ids)) or {}
  local seen = 0
  while seen < #ids and #reply < limit * 2 + 2 do -- bounded by SCANNED
    seen = seen + 1
    if raws[seen] and is_wanted(raws[seen]) then
      reply[#reply + 1] = ids[seen]
      reply[#reply + 1] = raws[seen]
    end
  end
  if seen < #ids or #ids == SCANNED then reply[2] = int(from + seen) end
  return reply
end
local from, count, after = match(cursor, '^(%d+):?(%d*):?(.*)$')
local page = call('HSCAN', b.keys.state, from, 'COUNT', SCANNED)
local rows, found = page[2], {}
-- The part may cover more than when it was told, where the hash has shrunk: then anew.
local is_whole = from == '0' and page[1] == '0'
if after ~= '' and not is_whole and #rows > tonumber(count) then after = '' end
for i = 1, #rows, 2 do
  if rows[i] > after and is_wanted(rows[i + 1]) then found[#found + 1] = { rows[i], rows[i + 1] } end
end
reply[2] = page[1]
if #found > limit then
  table.sort(found, function(x, y) return x[1] < y[1] end)
  reply[2] = from .. ':' .. #rows .. ':' .. found[limit][1]
end
for i = 1, math.min(#found, limit) do
  reply[#reply + 1] = found[i][1]
  reply[#reply + 1] = found[i][2]
end
return reply
