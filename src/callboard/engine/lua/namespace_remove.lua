-- Remove the keys of a named namespace, a bounded piece of the database a call.
--
-- `cursor` is 0 at first, then what the last call answered, until that is 0 again. The
-- default namespace has no prefix to tell its keys from others, so it is refused.
--
-- KEYS    format
-- ARGV    cursor:str, limit:int
-- RETURNS ok cursor removed | default_namespace
-- EVENTS  none: nobody is left to read them
-- FLAGS   allow-oom
-- include open

if not call then alias() end
local prefix = string.sub(format_key, 1, #format_key - #FORMAT)
if prefix == '' then return { 'default_namespace' } end

-- writes
local found = call('SCAN', cursor, 'MATCH', prefix .. '*', 'COUNT', limit)
local keys = found[2]
for from = 1, #keys, BATCH_VALUES do
  call('UNLINK', unpack_values(keys, from, math.min(from + BATCH_VALUES - 1, #keys)))
end
return { 'ok', found[1], #keys }
