-- Set a board's settings, or pause and resume it or kinds of its tasks.
--
-- Making a claimable board again rings the agents that wait for it. Rows are name, value;
-- an empty value returns the setting to its default. `pause_kind` and `resume_kind` put one
-- kind on the list of those paused, or take it off.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, pairs:rows
-- RETURNS ok | step_fixed step | no_namespace | newer_format
-- EVENTS  board:created, board:changed
-- REPEAT  by state
-- FLAGS   allow-oom
-- include place

-- The list with the kind added or taken out, in order of name.
local function with_kind(kinds, kind, is_paused)
  local names = is_paused and { kind } or {}
  for name in gmatch(kinds, '[^,]+') do
    if name ~= kind then names[#names + 1] = name end
  end
  table.sort(names)
  return concat(names, ',')
end

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
for i = pairs_at, #ARGV - 1, 2 do
  if ARGV[i] == 'step' and not b.is_new and tonumber(ARGV[i + 1]) ~= b.step then
    return { 'step_fixed', b.step }
  end
end
touch_board(b)

-- writes
t.by = by
b.is_idle = true -- what was set may make something due at once
wake_board(b)
if b.is_new then
  call('HSET', b.keys.board, 'step', b.step, 'created', t.ms)
  call('ZADD', boards_key(t.prefix), 'NX', t.ms, b.name)
  fact(t, 'board:created', b.name, '', 'active', '', 0)
end
for i = pairs_at, #ARGV - 1, 2 do
  local name, value = ARGV[i], ARGV[i + 1]
  if name == 'pause_kind' or name == 'resume_kind' then
    name, value = 'paused_kinds', with_kind(b.paused_kinds, value, name == 'pause_kind')
    b.paused_kinds = value
  end
  hput(t, b.keys.board, name, value ~= '' and value or false)
  fact(t, 'board:changed', b.name, '', name, '', 0, value)
end
local waiters = waiters_of(b)
for i = 1, #waiters do t.bells[agent_bell(t.prefix, waiters[i].member)] = b.name end
b.has_news = true
finish(t)
return { 'ok' }
