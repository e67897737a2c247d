-- Put a conflict to the vote: who may vote is fixed here, and nothing of the rules changes.
--
-- `rule` is vote or consensus; `share` of the members make a quorum, a party needs `threshold`
-- of the confidence given for a consensus. A tie is left undecided, or goes to the first
-- listed. Rows are the members; none for all agents that may claim now.
--
-- KEYS    format
-- ARGV    id:str, by:str, operation:str, rule:str, share:num, threshold:num, tie:str, revisable:int, last_ms:int, count:int, members:rows
-- RETURNS ok members quorum deadline | replayed members quorum deadline | conflict_not_found | already_resolved winner strategy | conflict_busy status deadline | no_electorate | electorate_too_large limit | no_namespace | newer_format
-- EVENTS  conflict:voting
-- REPEAT  by operation id
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local c = conflicts.read(t, id)
if not c then return { 'conflict_not_found' } end
if conflicts.is_resolved(c) then return { 'already_resolved', c.f.winner, c.f.strategy } end
if c.f.status == 'voting' and c.f.operation == operation then
  return { 'replayed', tonumber(c.f.size), tonumber(c.f.quorum), tonumber(c.f.deadline) }
end
if c.f.status == 'voting' or c.f.status == 'referred' then
  return { 'conflict_busy', c.f.status, c.f.deadline or '' }
end
local members = {}
if count > 0 then
  for i = members_at, members_at + count - 1 do members[#members + 1] = ARGV[i] end
elseif call('SCARD', agents_active_key(t.prefix)) <= CONFLICT_MEMBERS_MOST then
  members = call('SMEMBERS', agents_active_key(t.prefix))
else
  return { 'electorate_too_large', CONFLICT_MEMBERS_MOST }
end
if #members == 0 then return { 'no_electorate' } end
conflicts.touch(t, c.keys)

-- writes
t.by = by
call('DEL', c.keys.votes, c.keys.electorate)
for from = 1, #members, BATCH_VALUES do
  call('SADD', c.keys.electorate, unpack_values(members, from, math.min(#members, from + BATCH_VALUES - 1)))
end
local size = call('SCARD', c.keys.electorate)
local quorum = math.max(1, math.ceil(share * size - 1e-9))
local deadline = t.ms + last_ms
local fields = { status = 'voting', rule = rule, size = size, quorum = quorum, threshold = threshold,
  tie = tie, revisable = revisable, deadline = int(deadline), operation = operation }
for field, value in pairs(fields) do conflicts.put(t, c, field, tostring(value)) end
zput(t, c.keys.due, id, deadline)
conflicts.log(t, c, 'put_to_vote', by, '{"rule":"' .. rule .. '","members":' .. size .. ',"quorum":' .. quorum
  .. ',"threshold":' .. threshold .. ',"tie":"' .. tie .. '","deadline":' .. int(deadline) .. '}')
conflicts.tell(t, c, 'conflict:voting', 'voting', '', rule .. '|' .. quorum .. '|' .. size)
close(t)
return { 'ok', size, quorum, deadline }
