-- Groups of errors with one fingerprint, those seen last first.
--
-- `state` narrows to open, resolved or ignored; empty is all. At most 5,000 are looked at.
--
-- KEYS    format
-- ARGV    since_ms:int, limit:int, state:str
-- RETURNS ok groups | no_namespace | newer_format
-- EVENTS  none: a read
-- FLAGS   no-writes
-- include errors

local PAGE, SEEN_MOST = 500, 5000
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, found = error_keys(t.prefix), {}
local from = int(math.max(since_ms, t.ms - ERROR_GROUPS_KEPT_MS))
for seen = 0, SEEN_MOST - 1, PAGE do
  local page = call('ZREVRANGEBYSCORE', keys.unique, '+inf', from, 'LIMIT', seen, PAGE)
  for i = 1, #page do
    if #found >= limit then return { 'ok', found } end
    local flat = call('HGETALL', keys.group .. page[i])
    local is_meant = #flat > 0
    if state ~= '' then is_meant = call('HGET', keys.group .. page[i], 'state') == state end
    if is_meant then found[#found + 1] = { page[i], flat } end
  end
  if #page < PAGE then break end
end
return { 'ok', found }
