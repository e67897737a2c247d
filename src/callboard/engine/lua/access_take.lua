-- Let one through by a rate, or say in how many ms the next may be; then nothing is taken.
--
-- KEYS    format
-- ARGV    bucket:str, interval:int, burst:int
-- RETURNS ok wait_ms | no_namespace | newer_format
-- EVENTS  none: a rate is no news
-- FLAGS   allow-oom
-- include open, gcra

local t, refusal = open(format_key, now)
if not t then return refusal end
local rate = access_keys(t.prefix).rate .. bucket
local arrival = gcra.arrival(tonumber(call('GET', rate) or 0), t.now, interval, burst)
local wait = gcra.next_at(arrival, interval, burst) - t.now
if wait > 0 then return { 'ok', math.ceil(wait / 1000) } end

-- writes
local after = arrival + interval
call('SET', rate, int(after), 'PX', math.ceil((after - t.now) / 1000))
close(t)
return { 'ok', 0 }
