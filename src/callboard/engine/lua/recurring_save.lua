-- Keep the definition of a recurring task, with its next tick; the same as before is left alone.
--
-- `definition` is JSON, and only compared. `next_ms` is 0 where no tick is to come. A
-- definition that replaces another keeps what was counted, and stays paused where it was.
--
-- KEYS    format
-- ARGV    name:str, by:str, definition:str, next_ms:int, replace:int
-- RETURNS ok | same | recurring_conflict | too_many_recurring limit | no_namespace | newer_format
-- EVENTS  recurring:changed
-- REPEAT  by state
-- include open

local RECURRING_MOST = 10000
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = recurring_keys(t.prefix)
local key = keys.recurrence .. name
local h = call('HMGET', key, 'definition', 'revision', 'paused', 'last_error')
if h[1] == definition then return { 'same' } end
if h[1] and replace == 0 then return { 'recurring_conflict' } end
if not h[1] and call('ZCARD', keys.all) >= RECURRING_MOST then
  return { 'too_many_recurring', RECURRING_MOST }
end
touch('ZCARD', keys.all)
touch('ZCARD', keys.due)
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
hput(t, key, 'definition', definition)
hput(t, key, 'revision', (tonumber(h[2]) or 0) + 1)
if h[4] then
  hput(t, key, 'last_error', false)
  hput(t, key, 'last_error_code', false)
end
if not h[1] then
  hput(t, key, 'created', t.ms)
  hput(t, key, 'created_by', by)
  zput(t, keys.all, name, t.ms)
end
zput(t, keys.due, name, next_ms > 0 and not h[3] and next_ms)
fact(t, 'recurring:changed', '', name, h[1] and 'replaced' or 'created', '', 0)
close(t)
return { 'ok' }
