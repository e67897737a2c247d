-- Contexts: hashes of plain fields that agents share, with what is known about each beside it.
--
-- `context:project:{id}` has the fields and nothing else, as text. `context:about:{id}` has rev,
-- at, by, bytes, expires_at, ttl (where each write begins it anew), and under `:field` the type
-- of each field that is no text: i, f, b, n (null) or j (JSON).
--
-- A rev is a number of the counter that fences come from, so it is never given twice, not even
-- after the context was deleted. A hash that somebody else wrote has rev 0.
-- include lock

local CONTEXT_FIELDS_MOST = 1000
local CONTEXT_BYTES_MOST = 4194304
local CONTEXT_NAMES_TOLD = 100
local CONTEXT_SUM_MOST = 9007199254740992 -- 2^53: beyond it a double skips numbers

local contexts = {}

-- The context as it stands; one whose time is over counts as gone.
function contexts.read(t, project)
  local keys = context_keys(t.prefix, project)
  local h = call('HMGET', keys.about, 'rev', 'at', 'by', 'bytes', 'expires_at', 'ttl')
  local size = call('HLEN', keys.fields)
  local expires = tonumber(h[5])
  local c = {
    project = project, keys = keys, rev = tonumber(h[1]) or 0, at = tonumber(h[2]) or 0,
    by = h[3] or '', bytes = tonumber(h[4]) or 0, expires = expires, ttl = tonumber(h[6]),
    size = size, is_new = not h[1] and size == 0,
  }
  if expires and expires <= t.ms then
    c.is_over, c.is_new, c.rev, c.bytes, c.size, c.expires, c.ttl = true, true, 0, 0, 0, nil, nil
  end
  return c
end

-- Fails with WRONGTYPE, before anything was written, where a key of contexts is somebody else's.
function contexts.touch(t, c)
  touch('ZCARD', c.keys.all)
  touch('ZCARD', c.keys.due)
  touch('XLEN', events_key(t.prefix))
end

-- The first lock of those presented, lines of fence and name, whose fence is not a current
-- holder's; nil where all are.
function contexts.unlocked(t, presented)
  for fence, name in gmatch(presented, '(%d+) ([^\n]+)') do
    local l, is_held = locks.resource(t, name), false
    for owner in pairs(l.raw) do
      local h = locks.holding(l, owner)
      local given = tonumber(fence)
      if h.mark ~= 'h' and tonumber(h.first) <= given and given <= tonumber(h.fence) then is_held = true end
    end
    if not is_held then return name end
  end
end

-- The shortest text that reads as the same number.
function contexts.number(value)
  if value == floor(value) and value > -1e15 and value < 1e15 then return format('%d', value) .. '.0' end
  for digits = 15, 17 do
    local text = format('%.' .. digits .. 'g', value)
    if tonumber(text) == value then return text end
  end
end

-- The sum that a row `+` asks for as type and text; or a refusal.
function contexts.sum(c, name, amount)
  local before = not c.is_over and call('HGET', c.keys.fields, name) or '0'
  local is_whole = match(before, '^%-?%d+$') and match(amount, '^%-?%d+$')
  local first, second = tonumber(before), tonumber(amount)
  if not first or match(before, '^%s*%-?0?[xX]') then return nil, nil, { 'not_a_number', name } end
  local total = first + second
  if total ~= total or total >= CONTEXT_SUM_MOST or total <= -CONTEXT_SUM_MOST then
    return nil, nil, { 'not_a_number', name }
  end
  if is_whole then return 'i', format('%d', total) end
  return 'f', contexts.number(total)
end

-- What the rows would change: name, type, value. Type - removes a field, + adds a number to
-- it. Answers the plan, or nil and a refusal; nothing is written.
function contexts.plan(c, rows, at, count, is_whole)
  local plan = { sets = {}, kinds = {}, names = {}, sums = {}, is_whole = is_whole }
  local size, bytes = c.size, c.bytes
  if is_whole then
    size, bytes = 0, 0
    local named = {}
    for i = 1, count do named[rows[at + (i - 1) * 3]] = true end
    for _, name in ipairs(c.is_over and {} or call('HKEYS', c.keys.fields)) do
      if not named[name] then plan.names[#plan.names + 1] = '!' .. name end
    end
  end
  for i = 1, count do
    local name, kind, value = rows[at + (i - 1) * 3], rows[at + (i - 1) * 3 + 1], rows[at + (i - 1) * 3 + 2]
    local length, is_there = 0, false
    if not (c.is_over or is_whole) then
      length = call('HSTRLEN', c.keys.fields, name)
      is_there = length > 0 or call('HEXISTS', c.keys.fields, name) == 1
    end
    if is_there then size, bytes = size - 1, bytes - length - #name end
    if kind == '+' then
      local refusal
      kind, value, refusal = contexts.sum(c, name, value)
      if refusal then return nil, refusal end
      plan.sums[#plan.sums + 1] = value
    end
    if kind ~= '-' then
      size, bytes = size + 1, bytes + #value + #name
      plan.sets[name], plan.kinds[name] = value, kind
      plan.names[#plan.names + 1] = name
    elseif is_there then
      plan.sets[name], plan.kinds[name] = false, 's'
      plan.names[#plan.names + 1] = '!' .. name
    end
  end
  if bytes < 0 then bytes = 0 end
  if size > CONTEXT_FIELDS_MOST then return nil, { 'context_full', 'fields', CONTEXT_FIELDS_MOST } end
  if bytes > CONTEXT_BYTES_MOST then return nil, { 'context_full', 'bytes', CONTEXT_BYTES_MOST } end
  plan.bytes = bytes
  return plan
end

-- Tells that a context changed, on the stream and the documented channel.
function contexts.tell(t, c, state, rev, extra)
  fact(t, 'context:updated', '', c.project, state, '', int(rev), extra)
  if t.channels then
    call('PUBLISH', c.keys.channel, '{"type":"project_context_updated","projectId":"' .. c.project
      .. '","timestamp":"' .. iso(t.ms) .. '"}')
  end
end

-- Carries a plan out; answers the new rev. `ttl` in ms: '' keeps what there is, 0 ends it.
function contexts.write(t, c, plan, by, ttl, slides)
  local keys, rev = c.keys, take_fences(t, 1)
  local is_new = c.is_new
  if c.is_over or plan.is_whole then
    call('DEL', keys.fields)
    local expires, kept = c.expires, c.ttl
    call('DEL', keys.about)
    if expires then hput(t, keys.about, 'expires_at', expires) end
    if kept then hput(t, keys.about, 'ttl', kept) end
    if c.is_over then zput(t, keys.due, c.project, false) end
  end
  for name, value in pairs(plan.sets) do
    hput(t, keys.fields, name, value)
    local kind = plan.kinds[name]
    hput(t, keys.about, ':' .. name, kind ~= 's' and kind or false)
  end
  hput(t, keys.about, 'rev', int(rev))
  hput(t, keys.about, 'at', t.ms)
  hput(t, keys.about, 'by', by)
  hput(t, keys.about, 'bytes', plan.bytes)
  zput(t, keys.all, c.project, t.ms)
  local lasts = tonumber(ttl) or c.ttl
  if ttl ~= '' then hput(t, keys.about, 'ttl', lasts > 0 and slides and lasts or false) end
  if lasts then
    hput(t, keys.about, 'expires_at', lasts > 0 and t.ms + lasts or false)
    zput(t, keys.due, c.project, lasts > 0 and t.ms + lasts or false)
  end
  local names = #plan.names > CONTEXT_NAMES_TOLD and '*' or concat(plan.names, ',')
  contexts.tell(t, c, is_new and 'created' or 'updated', rev, names)
  c.rev, c.is_new = rev, false
  return rev
end

-- Removes a context with all that is known about it.
function contexts.drop(t, c, state)
  local rev = take_fences(t, 1)
  call('DEL', c.keys.fields, c.keys.about)
  zput(t, c.keys.all, c.project, false)
  zput(t, c.keys.due, c.project, false)
  contexts.tell(t, c, state, rev, '*')
end
