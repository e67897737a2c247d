-- End a claim by adding children and parking the task as blocked on them; when they have
-- all ended, however they ended where `policy` is G, it may be claimed again.
--
-- The rows are those of `task_submit`.
--
-- KEYS    format
-- ARGV    board_name:str, instance:str, id:str, fence:str, policy:str, count:int, tasks:rows
-- RETURNS ok outcomes | replayed | cancel_requested | lease_lost | task_not_found | id_conflict id | unique_conflict id key holder | board_full limit waiting | too_many_lanes limit | dependency_cycle path | graph_too_large limit | board_closed | no_namespace | newer_format
-- EVENTS  task:created, task:split, task:assigned, task:failed
-- REPEAT  by fence
-- include hold, submit

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
local r = load_record(b, id)
local no = stale(r, fence)
if no and has_given_up(r, fence) then return { 'replayed' } end
if no then return { no } end
if has(r, 'C') then return { 'cancel_requested' } end
local parent = { id = id, deps = {}, options = {}, is_referred = has(r, 'D') }
local rows, fresh, impossible = submits.check(b, ARGV, tasks_at, count, '', parent)
if impossible then return impossible end
touch_board(b)
touch_holders(b, { id })
touch('SCARD', b.keys.needs .. id)

-- writes
t.by = instance
submits.write(b, fresh)
leave(b, id, r)
unflag(r, 'S')
unflag(r, 'G')
if policy ~= '' then flag(r, policy) end
local is_blocked, failed = submits.link(b, parent, r)
r[SINCE] = tostring(t.ms)
local earlier = recall(b, id, 'children')
remember(b, id, r, 'children', (earlier and earlier .. ';' or '') .. concat(parent.deps, ','))
fact(t, 'task:split', b.name, id, 'blocked', r[HOLDER], fence, tostring(count))
if is_blocked then
  r[STATUS], r[HOLDER] = 'b', ''
  zput(t, b.keys.blocked, id, t.ms)
  for j = 1, #failed do dependency_failed(b, failed[j][1], failed[j][2], id, r) end
else
  make_ready(b, id, r)
end
save(b, id)
cascade(t)
finish(t)
local outcomes = {}
for i = 1, count do outcomes[i] = rows[i].exists and 'e' or 'c' end
return { 'ok', concat(outcomes), t.more and 'more' or '' }
