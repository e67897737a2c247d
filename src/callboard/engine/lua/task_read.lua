-- Tasks as they are now: five values each, or an empty record where there is none.
--
-- Record, body, result, lease deadline (ms), large payload; then the extra fields as one
-- list of names and values. `parts` 0 leaves out body, result, payload and extra.
--
-- KEYS    format
-- ARGV    board_name:str, parts:int, count:int, ids:rows
-- RETURNS ok now_ms tasks | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include record

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local ids = {}
for i = 1, count do ids[i] = ARGV[ids_at + i - 1] end
local raws = call('HMGET', b.keys.state, unpack_values(ids))
local whole = parts == 1
local bodies = whole and call('HMGET', b.keys.tasks, unpack_values(ids))
local results = whole and call('HMGET', b.keys.results, unpack_values(ids))
local reply = { 'ok', t.ms }
for i = 1, count do
  local raw, payload, extra, deadline = raws[i] or '', '', {}, ''
  if raw ~= '' then
    local r = parse(raw)
    if HELD[r[STATUS]] then deadline = call('ZSCORE', b.keys.leases, ids[i]) or '' end
    if r[STATUS] == 'a' then deadline = call('ZSCORE', b.keys.reserved, ids[i]) or '' end
    if r[STATUS] == 's' then
      deadline = call('ZSCORE', b.keys.scheduled, ids[i]) or call('ZSCORE', b.keys.retry, ids[i]) or ''
    end
    if whole and has(r, 'L') then payload = call('GET', b.keys.payload .. ids[i]) or '' end
    if whole and has(r, 'E') then extra = call('HGETALL', b.keys.extra .. ids[i]) end
  else
    raw = call('HGET', b.keys.outcomes, ids[i]) or ''
  end
  local n = #reply
  reply[n + 1], reply[n + 2] = raw, whole and bodies[i] or ''
  reply[n + 3], reply[n + 4] = whole and results[i] or '', deadline
  reply[n + 5], reply[n + 6] = payload, extra
end
return reply
