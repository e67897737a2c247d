-- Take a member's vote, one each, and decide in the same call once no other vote can change it.
--
-- An empty candidate is a vote for none of the parties. The same vote again changes nothing;
-- another one only where the ballot was opened so.
--
-- KEYS    format
-- ARGV    id:str, voter:str, candidate:str, confidence:str
-- RETURNS ok status winner | replayed status winner | conflict_not_found | already_resolved winner strategy | vote_closed status | not_a_member | not_a_party | already_voted candidate | no_namespace | newer_format
-- EVENTS  conflict:voted, conflict:undecided, conflict:resolved, context:updated, task:assigned, task:released, task:completed, resource:forced, resource:released, resource:acquired
-- REPEAT  by state
-- FLAGS   allow-oom
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local c = conflicts.read(t, id)
if not c then return { 'conflict_not_found' } end
if c.f.rule ~= 'consensus' then confidence = '1' end
local vote = candidate .. '|' .. confidence
local before = call('HGET', c.keys.votes, voter)
local is_same = before and match(before, '^[^|]*|[^|]*') == vote
if is_same and (c.f.status ~= 'voting' or tonumber(c.f.deadline) > t.ms) then
  return { 'replayed', c.f.status, c.f.winner or '' }
end
if conflicts.is_resolved(c) then return { 'already_resolved', c.f.winner, c.f.strategy } end
if c.f.status ~= 'voting' then return { 'vote_closed', c.f.status } end
if tonumber(c.f.deadline) <= t.ms then return { 'vote_closed', 'over' } end
if call('SISMEMBER', c.keys.electorate, voter) == 0 then return { 'not_a_member' } end
if candidate ~= '' and not c.places[candidate] then return { 'not_a_party' } end
if before and c.f.revisable ~= '1' then return { 'already_voted', match(before, '^[^|]*') } end
local votes = conflicts.votes(c)
votes[voter] = vote
local winner, reason = conflicts.count(c, votes, false)
local plan = winner and conflicts.plan_or_word(t, c, winner)
conflicts.touch_end(t, c, c.f.rule)

-- writes
t.by = voter
call('HSET', c.keys.votes, voter, vote .. '|' .. t.ms)
conflicts.log(t, c, 'voted', voter, '{"candidate":"' .. candidate .. '","confidence":' .. confidence .. '}')
conflicts.tell(t, c, 'conflict:voted', 'voting', voter, candidate)
if winner then
  conflicts.settle(t, c, { winner = winner, strategy = c.f.rule, reason = reason, by = voter }, plan)
elseif reason then
  conflicts.leave_undecided(t, c, reason)
end
conflicts.finish(t)
return { 'ok', c.f.status, c.f.winner or '' }
