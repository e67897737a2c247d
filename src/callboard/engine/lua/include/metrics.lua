-- Metrics: series as streams, and how much of each is kept.
-- include open

local METRIC_POINTS, METRIC_KEPT_MS, METRIC_SERIES_MOST = 1000, 2592000000, 10000
local METRIC_SETTINGS_MOST, METRIC_BOARDS_MOST, METRIC_AGENTS_MOST = 1000, 1000, 1000
local METRIC_RECORDS, METRIC_LANES, METRIC_MINUTE_MS = 1000, 4000, 60000
local METRIC_SAMPLE_MS = 30000

local metrics = {}
do
  -- How many points of a series of this name are kept, and for how many ms.
  local function kept(t, keys, name)
    t.metric_settings = t.metric_settings or {}
    local found = t.metric_settings[name]
    if not found then
      local raw = call('HGET', keys.settings, name)
      local points, ms = match(raw or '', '^(%d+):(%d+)$')
      found = { points = tonumber(points) or METRIC_POINTS, ms = tonumber(ms) or METRIC_KEPT_MS }
      t.metric_settings[name] = found
    end
    return found
  end

  -- Appends a point to a stream and cuts that to what is kept.
  local function append(t, key, most, fields)
    call('XADD', key, 'MAXLEN', '=', int(most.points), int(t.ms) .. '-*', unpack_values(fields))
    call('XTRIM', key, 'MINID', '=', int(t.ms - most.ms))
    call('PEXPIRE', key, int(most.ms))
  end

  function metrics.put(t, keys, series, value, step)
    local fields = { 'value', value }
    if step ~= '' then
      fields[3], fields[4] = 'step', step
    end
    append(t, keys.series .. series, kept(t, keys, match(series, '^[^;]*')), fields)
    call('ZADD', keys.all, int(t.ms), series)
  end

  -- Forgets which series there were: by age, and the longest unused where they are too many.
  function metrics.bound(t, keys)
    call('ZREMRANGEBYSCORE', keys.all, '-inf', int(t.ms - METRIC_KEPT_MS))
    call('PEXPIRE', keys.all, METRIC_KEPT_MS)
    local over = call('ZCARD', keys.all) - METRIC_SERIES_MOST
    if over <= 0 then return end
    local oldest = call('ZRANGE', keys.all, 0, math.min(over, BATCH_VALUES) - 1)
    for i = 1, #oldest do call('UNLINK', keys.series .. oldest[i]) end
    call('ZREM', keys.all, unpack_values(oldest))
  end

  -- A training's point: the field of a loss is called so, that of others `value`.
  function metrics.put_training(t, keys, project, name, step, value, learning_rate)
    local fields = { 'timestamp', int(t.ms), 'step', step, name == 'loss' and name or 'value', value }
    if learning_rate ~= '' then
      fields[7], fields[8] = 'learning_rate', learning_rate
    end
    append(t, keys.training .. project .. ':' .. name, kept(t, keys, name), fields)
  end
end
