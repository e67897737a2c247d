-- Forgetting finished tasks.
-- include outcome

-- Whether a cascade from this task is still queued: its dependents must hear of it first.
local function is_cascading(b, id)
  local queued = call('LRANGE', cascades_key(b.t.prefix), 0, 100)
  if #queued > 100 then return true end -- perhaps: a later purge will tell
  for i = 1, #queued do
    if string.find(queued[i], b.name .. ':' .. id .. ':', 1, true) == 1 then return true end
  end
  return false
end

-- Dependencies that were never submitted need not remember who waited for them.
local function forget_unknown(b, id)
  local needs = call('SMEMBERS', b.keys.needs .. id)
  load_records(b, needs)
  for i = 1, #needs do
    local key = b.keys.dependents .. needs[i]
    if not b.records[needs[i]] then
      call('ZREM', key, id)
      if call('ZCARD', key) == 0 then zput(b.t, b.keys.unresolved, needs[i], false) end
    end
  end
end

-- Forgets a finished task: afterwards only its outcome is known. An end that the totals of
-- metrics have not counted yet is counted here, for it stands nowhere any more.
local function purge(b, id)
  local t, keys, r = b.t, b.keys, load_record(b, id)
  if not r then return 'task_not_found' end
  if not FINISHED[r[STATUS]] or (has(r, 'D') and is_cascading(b, id)) then return 'illegal_state' end
  leave(b, id, r)
  if not t.counted_at then
    t.counted_at = tonumber(redis.pcall('HGET', metric_keys(t.prefix).totals, 'at')) or -1
  end
  if tonumber(r[SINCE]) > t.counted_at then count_in_totals(t, WORDS[r[STATUS]] .. ':' .. b.name) end
  hput(t, keys.tasks, id, false)
  hput(t, keys.state, id, false)
  if r[STATUS] == 'd' then hput(t, keys.results, id, false) end
  if has(r, 'N') then forget_unknown(b, id) end
  if r[FLAGS] ~= '' then
    call('DEL', keys.extra .. id, keys.attempts .. id, keys.notes .. id, keys.payload .. id,
      keys.needs .. id, keys.dependents .. id)
    t.hashes[keys.extra .. id] = nil
    if has(r, 'A') or r[STATUS] == 'f' then
      call('UNLINK', errors.details_of(error_keys(t.prefix), b.name, id))
    end
  end
  hput(t, keys.outcomes, id, r[STATUS] .. '|' .. r[SINCE])
  zput(t, keys.outcome_times, id, t.ms)
  b.records[id] = false
  fact(t, 'task:purged', b.name, id, WORDS[r[STATUS]], '', r[FENCE])
  return 'ok'
end
