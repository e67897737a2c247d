-- Add tasks to a board, all or none; one already there with the same body is left alone.
--
-- A row is five values: id, body (JSON), spec (lease|timeout|lane|priority|flags|retry),
-- options (`letter=value` lines), payload (only where it is kept beside the body). Where
-- `spec` is not empty it is that of all, and a row is two: id, body.
--
-- KEYS    format
-- ARGV    board_name:str, count:int, by:str, spec:str, tasks:rows
-- RETURNS ok outcomes | id_conflict id | unique_conflict id key holder | board_full limit waiting | too_many_lanes limit | dependency_cycle path | graph_too_large limit | board_closed | no_namespace | newer_format
-- EVENTS  board:created, task:created, task:assigned, task:failed, task:cancelled
-- REPEAT  by id: what is there already is left alone
-- include submit

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
t.by = by
local plain = submits.plain(b, ARGV, tasks_at, count, spec)
local rows, fresh, no
if not plain then
  rows, fresh, no = submits.check(b, ARGV, tasks_at, count, spec)
  if no then return no end
  submits.touch(b, fresh)
end

-- writes
if plain then
  submits.write_plain(b, plain)
  finish(t)
  return { 'ok', string.rep('c', count), '' }
end
submits.write(b, fresh)
cascade(t)
finish(t)
local outcomes = {}
for i = 1, count do outcomes[i] = rows[i].exists and 'e' or 'c' end
return { 'ok', concat(outcomes), t.more and 'more' or '' }
