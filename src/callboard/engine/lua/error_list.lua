-- The newest errors of a log first, as far as they fit the filter.
--
-- `project` names the log of its trainings; empty is that of tasks. `before` is an entry's
-- id, or `+`. Rows are the name of a field and its value; `name` is that of the error. What
-- a call looks at is bounded: where it answers fewer than `limit` and `next` is an id, the
-- next call goes on before it.
--
-- KEYS    format
-- ARGV    project:str, before:str, since_ms:int, limit:int, pairs:rows
-- RETURNS ok next entries | no_namespace | newer_format
-- EVENTS  none: a read
-- FLAGS   no-writes
-- include errors

local PAGE, SEEN_MOST = 500, 5000
local t, refusal = open(format_key, now)
if not t then return refusal end
local key = errors.log_of(error_keys(t.prefix), project, project ~= '')
local kept = project ~= '' and TRAINING_ERRORS_KEPT_MS or ERRORS_KEPT_MS
local from = int(math.max(since_ms, t.ms - kept))
local found, last, seen = {}, before, 0

local function fits(fields)
  local has_all = true
  for i = pairs_at, #ARGV - 1, 2 do
    local name, value, has_one = ARGV[i], ARGV[i + 1], false
    for at = 1, #fields, 2 do
      local is_name = name == 'name' and fields[at] == 'error'
      if is_name then
        local begin = '{"name":"' .. value .. '",'
        has_one = has_one or string.sub(fields[at + 1], 1, #begin) == begin
      elseif fields[at] == name then
        has_one = has_one or fields[at + 1] == value
      end
    end
    has_all = has_all and has_one
  end
  return has_all
end

while #found < limit and seen < SEEN_MOST do -- bounded by SEEN_MOST
  local to = last == '+' and last or '(' .. last
  local page = call('XREVRANGE', key, to, from, 'COUNT', PAGE)
  if #page == 0 then return { 'ok', '', found } end
  for i = 1, #page do
    if #found < limit then
      last = page[i][1]
      if fits(page[i][2]) then found[#found + 1] = page[i] end
    end
  end
  seen = seen + #page
end
return { 'ok', last, found }
