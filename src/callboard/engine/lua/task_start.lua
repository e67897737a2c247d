-- The holder says that it began: its lease loss counts as a crash from here.
--
-- A row is id, fence.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, count:int, claims:rows
-- RETURNS ok answers | no_namespace | newer_format
-- ITEMS   ok | lease_lost | task_not_found
-- EVENTS  task:started
-- REPEAT  by fence
-- FLAGS   allow-oom
-- include hold

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
touch_events(b)

-- writes
t.by = instance
local answers = {}
for i = 1, count do
  answers[i] = start(b, ARGV[claims_at + (i - 1) * 2], ARGV[claims_at + (i - 1) * 2 + 1])
end
finish(t)
return { 'ok', concat(answers, ',') }
