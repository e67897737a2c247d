-- A run as the functions see it: where it stands, and the board of its tasks.
-- include place

local RUN_ENDED = { done = true, failed = true, cancelled = true }
local UNLED_MS = 30000 -- what a leader gets to end its run in once its time is over

-- Nil where there is no such run. What a run's functions write is looked at here.
local function read_run(t, id)
  local keys = run_keys(t.prefix, id)
  local h = call('HMGET', keys.run, 'phase', 'generation', 'round', 'reason', 'paused_at',
    'deadline_at', 'operation', 'lead_fence')
  if not h[1] then return nil end
  local r = {
    id = id, keys = keys, phase = h[1], generation = tonumber(h[2]), round = h[3] or '0',
    reason = h[4] or '', paused_at = tonumber(h[5]), deadline_at = tonumber(h[6]),
    operation = h[7], lead_fence = tonumber(h[8]) or 0, board = board(t, id),
  }
  touch_usual(r.board)
  return r
end

-- Makes the run's board claimable again, and rings those that wait for its tasks.
local function unpause_run(t, r)
  local b = r.board
  hput(t, r.keys.run, 'paused_at', false)
  if b.is_new then return end
  hput(t, b.keys.board, 'paused', false)
  b.is_idle = true -- something may be due at once
  wake_board(b)
  local waiters = waiters_of(b)
  for i = 1, #waiters do t.bells[agent_bell(t.prefix, waiters[i].member)] = b.name end
end
