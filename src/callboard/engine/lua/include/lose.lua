-- Leases that ran out, reservations that lapsed, times that have come.
-- include outcome

local CLAIM_SWEEPS = 10
local CLAIM_PROMOTES = 100

local function lost_error(r)
  return '{"type":"lease_lost","message":"The lease of ' .. r[HOLDER] .. ' ran out.","retryable":true}'
end

-- Gives a held task back because its holder is gone. A task claimed ahead and never
-- started is not at fault the first time; others spend a crash, and become a dead letter
-- after enough crashes, or enough different crashed instances.
local function lose(b, id, r)
  local t, holder = b.t, r[HOLDER]
  local _, instance = match(holder, '^([^/]*)/?(.*)$')
  if r[STATUS] == 'k' then
    flag(r, 'Z')
  else
    log_attempt(b, id, r, lost_error(r))
    chooser.failed(t, agent_of(r), kind_of(r[LANE]))
    errors.note_lost(b, id, r, 'lease_lost', 'The lease of ' .. holder .. ' ran out.')
    breakers.end_claim(t, r, 'failure')
    r[CRASHES] = tostring(tonumber(r[CRASHES]) + 1)
    if not string.find(',' .. r[CRASHED] .. ',', ',' .. instance .. ',', 1, true) then
      r[CRASHED] = r[CRASHED] == '' and instance or r[CRASHED] .. ',' .. instance
    end
  end
  leave(b, id, r)
  flag(r, 'V')
  local _, instances = string.gsub(r[CRASHED], '[^,]+', '')
  if has(r, 'C') then
    cancel_task(b, id, r, 'requested')
  elseif instances >= b.poison or tonumber(r[CRASHES]) >= b.crashes then
    errors.note_lost(b, id, r, 'poison', 'Lost ' .. r[CRASHES] .. ' times, by ' .. instances .. ' instances.')
    bury(b, id, r, '{"type":"poison","message":"Lost ' .. r[CRASHES] .. ' times, by ' .. instances
      .. ' instances.","retryable":false}', 'poison')
  else
    make_ready(b, id, r)
    save(b, id)
  end
  fact(t, 'task:lease_lost', b.name, id, WORDS[r[STATUS]], holder, r[FENCE], r[CRASHES])
end

-- An overdue lease: out of time where the attempt had a time limit, else lost.
local function end_lease(b, id)
  local r = load_record(b, id)
  if not r or not HELD[r[STATUS]] then
    zput(b.t, b.keys.leases, id, false)
    return
  end
  if r[TIMEOUT] ~= '' and r[STATUS] ~= 'k' and tonumber(r[SINCE]) + tonumber(r[TIMEOUT]) <= b.t.ms then
    errors.note_lost(b, id, r, 'timeout', 'Ran longer than its ' .. r[TIMEOUT] .. ' ms.')
    retry_or_bury(b, id, r, '{"type":"timeout","message":"Ran longer than its ' .. r[TIMEOUT]
      .. ' ms.","retryable":true}', true, (b.t.now % 1000) / 1000)
  else
    lose(b, id, r)
  end
end

local function expire_leases(b, limit)
  local t = b.t
  local rows = call('ZRANGEBYSCORE', b.keys.leases, '-inf', t.ms, 'LIMIT', 0, limit, 'WITHSCORES')
  if #rows > 0 then touch_board(b) end
  local ids = {}
  for i = 1, #rows, 2 do ids[#ids + 1] = rows[i] end
  touch_holders(b, ids)
  for i = 1, #rows, 2 do
    if is_over(t, tonumber(rows[i + 1])) then end_lease(b, rows[i]) end
  end
  return #rows / 2
end

-- Tasks whose time has come: retries that are due and those held back until now.
local function promote(b, limit)
  local moved = 0
  for _, key in ipairs({ b.keys.retry, b.keys.scheduled }) do
    local ids = call('ZRANGEBYSCORE', key, '-inf', b.t.ms, 'LIMIT', 0, limit)
    if #ids > 0 then touch_board(b) end
    load_records(b, ids)
    for i = 1, #ids do
      local r = b.records[ids[i]]
      if r and r[STATUS] == 's' then
        leave(b, ids[i], r)
        make_ready(b, ids[i], r, i)
        save(b, ids[i])
      else
        zput(b.t, key, ids[i], false)
      end
    end
    moved = moved + #ids
  end
  return moved
end

-- Waiting tasks past their deadline end as failed; held ones keep it for when they wait
-- again. Comes before whatever makes tasks ready: a call tells readiness last.
local function expire_deadlines(b, limit)
  local ids = call('ZRANGEBYSCORE', b.keys.deadlines, '-inf', b.t.ms, 'LIMIT', 0, limit)
  if #ids > 0 then touch_board(b) end
  load_records(b, ids)
  for i = 1, #ids do
    local r = b.records[ids[i]]
    zput(b.t, b.keys.deadlines, ids[i], false)
    if r and not HELD[r[STATUS]] and not FINISHED[r[STATUS]] then
      errors.note_lost(b, ids[i], r, 'deadline_exceeded', 'Its deadline passed while it waited.')
      leave(b, ids[i], r)
      bury(b, ids[i], r, '{"type":"deadline_exceeded","message":"Its deadline passed while it waited.",'
        .. '"retryable":false}', 'deadline_exceeded')
    end
  end
  return #ids
end

-- Reservations not taken up in time go back to their lanes, at the agent's cost.
local function lapse(b, limit)
  local t = b.t
  local rows = call('ZRANGEBYSCORE', b.keys.reserved, '-inf', t.ms, 'LIMIT', 0, limit, 'WITHSCORES')
  for i = 1, #rows, 2 do
    if is_over(t, tonumber(rows[i + 1])) then
      local r = load_record(b, rows[i])
      if r and r[STATUS] == 'a' then
        -- Not at its cost where a pause, the task's keys, or a breaker kept it from taking it up.
        local is_barred = b.paused or kind_paused(b, r[LANE])
          or t.gated and not breakers.offers(t, r[HOLDER], r[LANE])
        if flow.room(t, r[LANE]) > 0 and not is_barred then call('HINCRBY', agent_key(t.prefix, r[HOLDER]), 'lapsed', 1) end
        leave(b, rows[i], r)
        unflag(r, 'H')
        chooser.lapsed(t)
        b.returned = b.returned + 1
        r.is_lapsed = true
        make_ready(b, rows[i], r)
        save(b, rows[i])
      else
        zput(t, b.keys.reserved, rows[i], false)
      end
    end
  end
  return #rows / 2
end
