-- What only the holder of the current fence may do: complete, start, and the check
-- that all such operations share.
-- include claim, turned_down

-- Why this fence may not act on this task: a status word, or nil.
local function stale(r, fence)
  if not r then return 'task_not_found' end
  if r[FENCE] ~= fence or not HELD[r[STATUS]] then return 'lease_lost' end
  return nil
end

-- Whether it was the holder that ended its claim under this fence, other than by completing
-- it: a repeat of that call is known by this, wherever the task went, until it is claimed.
local function has_given_up(r, fence)
  return r and r[FENCE] == fence and fence ~= '0' and r[STATUS] ~= 'd' and not HELD[r[STATUS]]
    and not has(r, 'V')
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

-- The usual end of a task, with nothing special about it, rewritten as text: what is held
-- under the fence, and the pieces that stay.
local PLAIN_HELD = '^[cki]|(%d+)|(%d+)|([^|/]*)(/?[^|]*)|%-?%d*|(%d*)|(||[^|]*|%-?%d+|0|0||||%d*)$'

-- Completes one task whose record has flags, failures or options.
local function complete_one(b, id, fence, result, now)
  local r = load_record(b, id)
  local refusal = stale(r, fence)
  if refusal == 'lease_lost' and r[STATUS] == 'd' and r[FENCE] == fence then return 'replayed' end
  if refusal then return refusal end
  touch_holders(b, { id })
  breakers.end_claim(b.t, r, 'success')
  chooser.done(b.t, agent_of(r), kind_of(r[LANE]), 1, b.t.ms - tonumber(r[SINCE]))
  leave(b, id, r)
  if result ~= '' then hput(b.t, b.keys.results, id, result) end
  unflag(r, 'C')
  end_task(b, id, r, 'd')
  fact(b.t, 'task:completed', b.name, id, 'done', r[HOLDER], fence)
  if now then publish_completed(b, id, r, result, now) end
  return 'ok'
end

-- Completes `count` tasks, each row id, fence and result (JSON, or empty for null).
-- Answers a status a task; a stale or unknown one changes nothing and stops nothing.
local function complete(b, rows, at, count)
  local answers = {}
  if count == 0 then return answers end
  local t, keys, ids = b.t, b.keys, {}
  for i = 1, count do ids[i] = rows[at + (i - 1) * 3] end
  local raws = call('HMGET', keys.state, unpack_values(ids))
  local now, ms = t.channels and iso(t.ms), tostring(t.ms)
  local prefix, channel = b.name .. ':', completed_channel(t.prefix)
  local head = '{"projectId":"' .. b.name .. '","taskId":"'
  local states, done, results, holds, ended = {}, {}, {}, {}, {}
  local sample = t.now % count + 1 -- whose time stands for those of its agent's tasks here
  local lines, has_alone = lines_of(t, 'task:completed', b.name), false
  for i = 1, count do
    local base = at + (i - 1) * 3
    local id, fence, result, raw = ids[i], rows[base + 1], rows[base + 2], raws[i]
    local attempt, held_fence, agent, instance, since, tail = match(raw or '', PLAIN_HELD)
    if held_fence == fence and not ended[id] and not b.records[id] then
      local holder, n = agent .. instance, #done
      has_alone = has_alone or instance == ''
      ended[id] = fence
      states[n + 1] = id
      states[n + 2] = 'd|' .. attempt .. '|' .. fence .. '|' .. holder .. '|' .. int(t.ms - since) .. '|' .. ms .. '|' .. tail
      done[n + 1], done[n + 2] = ms, id
      if result ~= '' then results[#results + 1] = id; results[#results + 1] = result end
      local hold = holds[agent]
      if not hold then
        hold = { took = t.ms - since, tail = tail }
        holds[agent] = hold
        if not (t.agents and t.agents[agent]) then touch('ZCARD', held_key(t.prefix, agent)) end
      end
      hold[#hold + 1] = prefix .. id
      if i == sample then hold.took, hold.tail = t.ms - since, tail end
      lines[#lines + 1] = id .. '|done|' .. holder .. '|' .. fence
      if now then
        call('PUBLISH', channel, head .. id .. '","agent":"' .. agent .. '","completedAt":"' .. now
          .. '","result":' .. (result == '' and 'null' or result) .. '}')
      end
      answers[i] = 'ok'
    elseif ended[id] then
      answers[i] = ended[id] == fence and 'replayed' or 'lease_lost'
    else
      answers[i] = complete_one(b, id, fence, result, now)
    end
  end
  if #done > 0 then
    send('HSET', keys.state, states)
    local leased = {}
    for i = 2, #done, 2 do leased[i / 2] = done[i] end
    send('ZREM', keys.leases, leased)
    b.held, b.has_left = b.held - #leased, true
    b.has_news = b.has_news or has_alone
    send('ZADD', keys.done, done)
    if #results > 0 then send('HSET', keys.results, results) end
    for agent, hold in pairs(holds) do
      remembered.touch(t, held_key(t.prefix, agent))
      send('ZREM', held_key(t.prefix, agent), hold)
      local known = t.agents and t.agents[agent]
      if known then known.held = known.held - #hold end
      chooser.done(t, agent, match(hold.tail, '^||([^;|]*)'), #hold, hold.took)
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
    if r[TIMEOUT] ~= '' then -- while it was claimed ahead, its lease knew no time limit
      local latest, key = b.t.ms + tonumber(r[TIMEOUT]), b.keys.leases
      if latest < tonumber(call('ZSCORE', key, id) or '0') then zput(b.t, key, id, latest) end
    end
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
