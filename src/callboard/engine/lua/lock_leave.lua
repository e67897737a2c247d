-- Give back all that an owner holds, whatever its counts, and end its waits.
--
-- KEYS    format
-- ARGV    owner:str
-- RETURNS ok more count | no_namespace | newer_format
-- EVENTS  resource:released, resource:acquired
-- REPEAT  by state
-- FLAGS   allow-oom
-- include lock

local t, refusal = open(format_key, now)
if not t then return refusal end
locks.touch(t, owner)

-- writes
local count = locks.release_all(t, owner, 'released')
locks.forget_others(t, owner)
locks.close(t)
return { 'ok', t.has_locks_left and 'more' or '', count }
