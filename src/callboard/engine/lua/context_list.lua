-- List contexts, the last changed first: name, revision, when and by whom it was changed,
-- fields, bytes and when it expires.
--
-- KEYS    format
-- ARGV    skip:int, limit:int
-- RETURNS ok total context | no_namespace | newer_format
-- EVENTS  none: it only reads
-- FLAGS   no-writes
-- include context

local t, refusal = open(format_key, now)
if not t then return refusal end
local all = context_keys(t.prefix, '').all
local answer = { 'ok', call('ZCARD', all) }
for _, name in ipairs(call('ZREVRANGE', all, skip, skip + limit - 1)) do
  local c = contexts.read(t, name)
  if not c.is_new then
    answer[#answer + 1] = { name, int(c.rev), c.at, c.by, c.size, c.bytes, c.expires or '' }
  end
end
return answer
