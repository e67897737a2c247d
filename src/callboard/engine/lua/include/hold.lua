-- What only the holder of the current fence may do: complete, start, and the check
-- that all such operations share.
-- include claim

-- Why this fence may not act on this task: a status word, or nil.
local function stale(r, fence)
  if not r then return 'task_not_found' end
  if r[FENCE] ~= fence or not HELD[r[STATUS]] then return 'lease_lost' end
  return nil
end

local function publish_completed(b, id, r, result, at)
  local agent = agent_of(r)
  call('PUBLISH', completed_channel(b.t.prefix), '{"projectId":"' .. b.name .. '","taskId":"' .. id
    .. '","agent":"' .. agent .. '","completedAt":"' .. at .. '","result":'
    .. (result == '' and 'null' or result) .. '}')
  if tonumber(r[FAILURES]) > 0 then
    call('PUBLISH', retry_channel(b.t.prefix, 'retry_success'), '{"type":"retry_success","taskId":"' .. id
      .. '","attempt":' .. r[FAILURES] .. ',"timestamp":"' .. at .. '"}')
  end
end

-- Completes `count` tasks; `row(i)` gives id, fence and result (JSON, or empty for null).
-- Answers a status a task; a stale or unknown one changes nothing and stops nothing.
local function complete(b, rows, at, count)
  local t, ids, answers = b.t, {}, {}
  for i = 1, count do ids[i] = rows[at + (i - 1) * 3] end
  load_records(b, ids)
  local now = t.channels and count > 0 and iso(t.ms)
  for i = 1, count do
    local base = at + (i - 1) * 3
    local id, fence, result = rows[base], rows[base + 1], rows[base + 2]
    local r = b.records[id]
    local refusal = stale(r, fence)
    if refusal == 'lease_lost' and r[STATUS] == 'd' and r[FENCE] == fence then
      answers[i] = 'replayed'
    elseif refusal then
      answers[i] = refusal
    else
      leave(b, id, r)
      if result ~= '' then hput(t, b.keys.results, id, result) end
      unflag(r, 'C')
      end_task(b, id, r, 'd')
      fact(t, 'task:completed', b.name, id, 'done', r[HOLDER], fence)
      if now then publish_completed(b, id, r, result, now) end
      answers[i] = 'ok'
    end
  end
  return answers
end

-- The holder says that it began: a task claimed ahead counts as started from here.
local function start(b, id, fence)
  local r = load_record(b, id)
  local refusal = stale(r, fence)
  if refusal then return refusal end
  if r[STATUS] ~= 'i' then
    r[STATUS], r[SINCE] = 'i', tostring(b.t.ms)
    save(b, id)
    fact(b.t, 'task:started', b.name, id, 'in_progress', r[HOLDER], fence)
  end
  return 'ok'
end

-- Puts a task that `leave` took from its holder back, to be claimed at once or later.
local function release(b, id, r, delay_ms)
  local t = b.t
  if has(r, 'C') then
    cancel_task(b, id, r, 'requested')
    return 'cancelled'
  end
  fact(t, 'task:released', b.name, id, delay_ms > 0 and 'scheduled' or 'pending', r[HOLDER], r[FENCE])
  r[SINCE], r[HOLDER] = tostring(t.ms), ''
  if delay_ms > 0 then
    r[STATUS] = 's'
    zput(t, b.keys.scheduled, id, t.ms + delay_ms)
  else
    offer(b, id, r)
  end
  save(b, id)
  return 'ok'
end
