-- When a board is swept again, and that one which nobody uses is removed.
-- include place

local IDLE_MS, EMPTY_KEPT_MS, USUAL_STEP = 60000, 604800000, 60000000

-- Fields of the board's hash that are no settings.
local OWN = { step = true, created = true, idle = true, failed_from = true, empty_since = true,
  claims = true, fair = true, virtual = true, aside = true, dispatched = true, distributed = true,
  timed = true, waited = true, returned = true, dispatches_by = true }

-- Whether somebody set something that would be lost with the board.
local function is_configured(b)
  if b.step ~= USUAL_STEP then return true end
  local names = call('HKEYS', b.keys.board)
  for i = 1, #names do
    if not OWN[names[i]] then return true end
  end
  return false
end

-- The next sweep: at once where tasks are unfinished or this one left something (not
-- `is_done`), else in a minute, or when the first of the finished tasks may leave.
local function schedule_sweep(b, is_done, finished_for)
  local t, unfinished, again = b.t, call('HLEN', b.keys.state), b.t.ms + IDLE_MS
  for _, status in ipairs({ 'done', 'cancelled', 'failed' }) do
    unfinished = unfinished - call('ZCARD', b.keys[status])
    -- Dead letters stay longer, so the oldest that failed says nothing.
    local oldest = status ~= 'failed' and call('ZRANGE', b.keys[status], 0, 0, 'WITHSCORES')[2]
    if oldest then again = math.min(again, tonumber(oldest) + finished_for) end
  end
  local is_idle = is_done and unfinished == 0
  if is_idle ~= b.is_idle then hput(t, b.keys.board, 'idle', is_idle and '1' or false) end
  zput(t, boards_due_key(t.prefix), b.name, is_idle and math.max(again, t.ms) or t.ms)
end

-- Ends a swept board's turn, after all was written that the sweep did. `empty_since` is
-- what an earlier sweep noted.
local function rest(b, is_done, finished_for, empty_since)
  local t, keys = b.t, b.keys
  schedule_sweep(b, is_done, finished_for)
  if call('HLEN', keys.state) + call('HLEN', keys.outcomes) + call('ZCARD', keys.waiters) > 0 then
    if empty_since then hput(t, keys.board, 'empty_since', false) end
  elseif not empty_since then
    hput(t, keys.board, 'empty_since', t.ms)
  elseif t.ms - empty_since > EMPTY_KEPT_MS and not is_configured(b) then
    call('DEL', keys.board)
    t.hashes[keys.board] = nil
    zput(t, boards_key(t.prefix), b.name, false)
    zput(t, boards_due_key(t.prefix), b.name, false)
    fact(t, 'board:removed', b.name, '', 'removed', '', 0)
  end
end
