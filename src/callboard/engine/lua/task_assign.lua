-- Choose an agent for each of these waiting tasks and reserve it; each answers for itself.
--
-- Without ids, for the `most` tasks that would be claimed next. An empty strategy is the
-- board's own. Each answer is six values: id, status word, agent, reason or fact, how many
-- had room, candidates with their scores. What is reserved so is out of a thief's reach for
-- half of its time to be taken up.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, strategy:str, take_up_ms:int, most:int, count:int, ids:rows
-- RETURNS ok now_ms strategy answers | paused closed | no_namespace | newer_format
-- ITEMS   ok | no_agent | reserved | not_ready | kind_paused | at_limit | task_not_found
-- EVENTS  task:assigned
-- FLAGS   allow-oom
-- include place

-- The first tasks of the lanes, best first. Where there are many lanes, a few of each.
local function next_ids(b, want)
  local heads = call('ZRANGE', b.keys.heads, 0, 255)
  local found, each = {}, math.min(want, math.max(1, floor(5000 / math.max(1, #heads))))
  for i = 1, #heads do
    local rows = {}
    if not kind_paused(b, heads[i]) then
      rows = call('ZRANGE', b.keys.lane .. heads[i], 0, each - 1, 'WITHSCORES')
    end
    for k = 1, #rows, 2 do found[#found + 1] = { id = rows[k], score = tonumber(rows[k + 1]) } end
  end
  table.sort(found, function(x, y)
    return x.score < y.score or x.score == y.score and x.id < y.id
  end)
  local ids = {}
  for i = 1, math.min(want, #found) do ids[i] = found[i].id end
  return ids
end

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
if b.paused then return { 'paused', b.closed and 'closed' or '' } end
local name = strategy ~= '' and strategy or b.strategy or 'best_idle'
local ids = {}
for i = 1, count do ids[i] = ARGV[ids_at + i - 1] end
if count == 0 then ids = next_ids(b, most) end
load_records(b, ids)
touch_board(b)

-- writes
t.by = by
local answers, size = {}, 0
for i = 1, #ids do
  local id = ids[i]
  local r = b.records[id]
  local status, reason = chooser.standing(b, r)
  local agent_id, considered, scores = '', 0, ''
  if not status then
    local agent
    agent, reason, scores, considered = chooser.choose(b, name, chooser.sketch(b, id, r), r[LANE], waiters_of(b))
    status = 'no_agent'
    if agent then
      status, agent_id = 'ok', agent.id
      chooser.take_aside(b, id, r, agent_id, t.ms + take_up_ms)
    end
  end
  answers[size + 1], answers[size + 2], answers[size + 3] = id, status, agent_id
  answers[size + 4], answers[size + 5], answers[size + 6] = reason, considered, scores
  size = size + 6
end
finish(t)
return { 'ok', t.ms, name, answers }
