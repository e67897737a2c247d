-- Read contexts as they stand at one moment, each with its revision.
--
-- Answers for as many of them as fit into 8 MiB, one at least; each a list of rev, at_ms, by,
-- expires_at and then field, type, value in turn; empty where there is no such context. With
-- `fields` not empty, only those, between commas.
--
-- KEYS    format
-- ARGV    fields:str, count:int, projects:rows
-- RETURNS ok context | no_namespace | newer_format
-- EVENTS  none: it only reads
-- FLAGS   no-writes
-- include context

local ANSWER_BYTES_MOST = 8388608
local t, refusal = open(format_key, now)
if not t then return refusal end
local wanted
if fields ~= '' then
  wanted = {}
  for name in gmatch(fields, '[^,]+') do wanted[#wanted + 1] = name end
end

local function typed(reply, name, value, kind)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = name, kind or 's', value
end

local function whole(c, reply)
  local kinds = {}
  local about = call('HGETALL', c.keys.about)
  for i = 1, #about, 2 do kinds[about[i]] = about[i + 1] end
  local flat = call('HGETALL', c.keys.fields)
  for i = 1, #flat, 2 do typed(reply, flat[i], flat[i + 1], kinds[':' .. flat[i]]) end
end

local function some(c, reply)
  local names = {}
  for i = 1, #wanted do names[i] = ':' .. wanted[i] end
  local values = call('HMGET', c.keys.fields, unpack_values(wanted))
  local kinds = call('HMGET', c.keys.about, unpack_values(names))
  for i = 1, #wanted do
    if values[i] then typed(reply, wanted[i], values[i], kinds[i]) end
  end
end

local answer, left = { 'ok' }, ANSWER_BYTES_MOST
for i = projects_at, projects_at + count - 1 do
  local c, reply = contexts.read(t, ARGV[i]), {}
  left = left - c.bytes
  if left < 0 and #answer > 1 then break end
  if not c.is_new then
    reply = { int(c.rev), c.at, c.by, c.expires or '' }
    if wanted then some(c, reply) else whole(c, reply) end
  end
  answer[#answer + 1] = reply
end
return answer
