-- Take an API key back for good, and note it in the audit log; again, it does nothing.
--
-- KEYS    format
-- ARGV    id:str, by:str, by_key:str, address:str
-- RETURNS ok now_ms value revoked used | api_key_not_found | no_namespace | newer_format
-- EVENTS  none: the audit log has it
-- REPEAT  by state
-- FLAGS   allow-oom
-- include audit

local GONE_MS = 2592000000
local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = access_keys(t.prefix)
local value = call('HGET', keys.keys, id)
if not value then return { 'api_key_not_found' } end
local revoked, used = call('HGET', keys.revoked, id), call('HGET', keys.used, id) or ''
if revoked then return { 'ok', t.ms, value, revoked, used } end
touch('ZCARD', keys.gone)
audit.touch(t)

-- writes
revoked = int(t.ms) .. '|' .. by
hput(t, keys.revoked, id, revoked)
zput(t, keys.gone, id, t.ms + GONE_MS)
audit.append(t, { 'name', by, 'key', by_key, 'address', address, 'operation', 'access.revoke', 'target', id,
  'outcome', 'ok' })
close(t)
return { 'ok', t.ms, value, revoked, used }
