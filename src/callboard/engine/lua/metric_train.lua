-- Append what a training reports of steps to its series, and publish each step.
--
-- A row is the step, the learning rate or nothing, loss and wer as JSON for the channel, then
-- how many values follow and these, name and value in turn.
--
-- KEYS    format
-- ARGV    project:str, count:int, steps:rows
-- RETURNS ok | no_namespace | newer_format
-- EVENTS  none: a point is the news itself
-- include metrics

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys, at = metric_keys(t.prefix), steps_at
touch('HLEN', keys.settings)
for _ = 1, count do
  local values = tonumber(ARGV[at + 4])
  for i = 0, values - 1 do touch('XLEN', keys.training .. project .. ':' .. ARGV[at + 5 + i * 2]) end
  at = at + 5 + values * 2
end

-- writes
at = steps_at
for _ = 1, count do
  local step, rate, values = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 4])
  for i = 0, values - 1 do
    metrics.put_training(t, keys, project, ARGV[at + 5 + i * 2], step, ARGV[at + 6 + i * 2], rate)
  end
  if t.channels then
    call('PUBLISH', keys.progress, '{"projectId":"' .. project .. '","step":' .. step .. ',"loss":'
      .. ARGV[at + 2] .. ',"wer":' .. ARGV[at + 3] .. ',"timestamp":"' .. iso(t.ms) .. '"}')
  end
  at = at + 5 + values * 2
end
close(t)
return { 'ok' }
