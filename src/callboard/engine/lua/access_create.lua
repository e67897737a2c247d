-- Keep a new API key, of whose secret only a hash is stored, and note it in the audit log.
--
-- `record` is a JSON object; a `lifetime_ms` of 0 is none. Keys that ran out, or were revoked,
-- 30 days ago are forgotten; where there is no room otherwise, the one that ended first is.
--
-- KEYS    format
-- ARGV    id:str, record:str, lifetime_ms:int, by:str, by_key:str, address:str, name:str
-- RETURNS ok value | id_conflict | too_many_api_keys most | no_namespace | newer_format
-- EVENTS  none: the audit log has it
-- REPEAT  by state
-- include audit

local API_KEYS_MOST, GONE_MS, FORGOTTEN_MOST = 1000, 2592000000, 100
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = access_keys(t.prefix)
local known = call('HGET', keys.keys, id)
if known then
  if match(known, '^[^|]*|[^|]*|(.*)$') ~= record then return { 'id_conflict', id } end
  return { 'ok', known }
end
local gone = call('ZRANGEBYSCORE', keys.gone, '-inf', t.ms, 'LIMIT', 0, FORGOTTEN_MOST)
local is_full = call('HLEN', keys.keys) - #gone >= API_KEYS_MOST
if is_full then
  gone = call('ZRANGEBYSCORE', keys.gone, '-inf', t.ms + GONE_MS, 'LIMIT', 0, 1)
  if #gone == 0 then return { 'too_many_api_keys', API_KEYS_MOST } end
end
touch('HLEN', keys.revoked)
touch('HLEN', keys.used)
audit.touch(t)

-- writes
for i = 1, #gone do
  hput(t, keys.keys, gone[i], false)
  hput(t, keys.revoked, gone[i], false)
  hput(t, keys.used, gone[i], false)
  zput(t, keys.gone, gone[i], false)
end
local expires = lifetime_ms > 0 and t.ms + lifetime_ms or nil
local value = int(t.ms) .. '|' .. (expires and int(expires) or '') .. '|' .. record
hput(t, keys.keys, id, value)
if expires then zput(t, keys.gone, id, expires + GONE_MS) end
audit.append(t, { 'name', by, 'key', by_key, 'address', address, 'operation', 'access.create',
  'target', id .. ' ' .. name, 'outcome', 'ok' })
close(t)
return { 'ok', value }
