-- Append to the audit log who asked for what, and how it ended.
--
-- KEYS    format
-- ARGV    fields:rows
-- RETURNS ok id | no_namespace | newer_format
-- EVENTS  none: the audit log is read by itself
-- FLAGS   allow-oom
-- include audit

local t, refusal = open(format_key, now)
if not t then return refusal end
audit.touch(t)

-- writes
local fields = {}
for i = fields_at, #ARGV do fields[#fields + 1] = ARGV[i] end
local id = audit.append(t, fields)
close(t)
return { 'ok', id }
