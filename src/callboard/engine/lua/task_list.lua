-- A page of the board's tasks: id and record each, and the cursor of the next page.
--
-- `statuses` are letters, empty for all. One status with an index is listed in the order of
-- that index; else the pages come in no order, each task that stays at least once.
--
-- KEYS    format
-- ARGV    board_name:str, statuses:str, kind:str, cursor:str, limit:int
-- RETURNS ok cursor tasks | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include place

local INDEX_OF = { b = 'blocked', a = 'reserved', q = 'input', d = 'done', f = 'failed', x = 'cancelled' }
local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local index, rows, following = INDEX_OF[statuses], {}, '0'
if index then
  local from = tonumber(cursor)
  local ids = call('ZRANGE', b.keys[index], from, from + limit - 1)
  local raws = #ids > 0 and call('HMGET', b.keys.state, unpack_values(ids)) or {}
  for i = 1, #ids do
    rows[#rows + 1] = ids[i]
    rows[#rows + 1] = raws[i] or ''
  end
  if #ids == limit then following = tostring(from + limit) end
else
  local page = call('HSCAN', b.keys.state, cursor, 'COUNT', limit)
  following, rows = page[1], page[2]
end
local reply = { 'ok', following }
for i = 1, #rows, 2 do
  local raw = rows[i + 1]
  if raw ~= '' then
    local r = parse(raw)
    if (statuses == '' or string.find(statuses, r[STATUS], 1, true))
      and (kind == '' or kind_of(r[LANE]) == kind) then
      reply[#reply + 1] = rows[i]
      reply[#reply + 1] = raw
    end
  end
end
return reply
