-- Wake those who wait for rates that let something through by now, and forget the rates of
-- keys that have been quiet for long enough.
--
-- KEYS    format
-- ARGV    limit:int
-- RETURNS ok more | no_namespace | newer_format
-- EVENTS  none: a rate is no news
-- REPEAT  by state
-- FLAGS   allow-oom
-- include place

local t, refusal = open(format_key, now)
if not t then return refusal end
local rates, quiet = flow.keys(t).rates, 0
local rows = call('ZRANGE', rates, 0, limit - 1, 'WITHSCORES')
if #rows == 0 then return { 'ok', '' } end -- an outcome

-- writes
for i = 1, #rows, 2 do
  flow.wake_later(t, rows[i])
  if tonumber(rows[i + 1]) <= t.now then
    zput(t, rates, rows[i], false)
    quiet = quiet + 1
  end
end
finish(t)
return { 'ok', quiet == limit and 'more' or '' }
