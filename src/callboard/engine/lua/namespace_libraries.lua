-- Remember when function libraries were last used here, and name those unused for long.
--
-- Rows are the other libraries that the engine has; one seen for the first time counts as
-- used now. Deleting one that another namespace uses costs it a reload and nothing else.
--
-- KEYS    format
-- ARGV    own:str, unused_ms:int, others:rows
-- RETURNS ok unused | no_namespace | newer_format
-- EVENTS  none
-- REPEAT  by state
-- FLAGS   allow-oom
-- include open

local FIELD = 'library:'
local t, refusal = open(format_key, now)
if not t then return refusal end
local used = {}
for i = others_at, #ARGV do used[i] = tonumber(call('HGET', format_key, FIELD .. ARGV[i]) or t.ms) end

-- writes
hput(t, format_key, FIELD .. own, t.ms)
local reply = { 'ok' }
for i = others_at, #ARGV do
  if ARGV[i] ~= own and used[i] <= t.ms - unused_ms then
    hput(t, format_key, FIELD .. ARGV[i], false)
    reply[#reply + 1] = ARGV[i]
  elseif ARGV[i] ~= own then
    hput(t, format_key, FIELD .. ARGV[i], used[i])
  end
end
write_hashes(t)
close(t)
return reply
