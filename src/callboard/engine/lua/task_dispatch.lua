-- Give waiting tasks to agents that run without instances, each to one that the strategy
-- chooses: claimed for one with an address, to be pushed there, reserved for any other.
--
-- A claim made here is ahead of its start, for `push_ms`: whoever calls says how the delivery
-- went. What others reserved for an agent with an address is claimed for it too; one that
-- rests after failed deliveries gives such back, and is tried with one task once it rested.
-- The board's own strategy goes before `strategy`. Rows are agent, how many tasks more may be
-- pushed to it now; others are pushed at most `each_most`, and agents without an address have
-- at most `reserve_most` reserved. For `serve_ms` the board rings whoever dispatches. Each push
-- is agent, address, 1 where deliveries to it failed of late, then five values a task as of a
-- claim; the tasks that are only reserved are counted. `more` is 1 where another call at once
-- would find more: the batch or the answer was full, or more was to compare than one may.
--
-- KEYS    format
-- ARGV    board_name:str, by:str, strategy:str, most:int, each_most:int, reserve_most:int, push_ms:int, take_up_ms:int, serve_ms:int, count:int, busy:rows
-- RETURNS ok now_ms more reserved pushes | board_not_found | paused closed | no_namespace | newer_format
-- EVENTS  task:assigned, task:claimed, task:ready, task:lease_lost, task:retry_scheduled, task:failed, task:cancelled, error:cascade
-- FLAGS   allow-oom
-- include dispatch

local t, refusal = open(format_key, now)
if not t then return refusal end
local b = board(t, board_name)
if b.is_new then return { 'board_not_found' } end
if b.paused then return { 'paused', b.closed and 'closed' or '' } end
touch_board(b)
local waiters, agents, left = waiters_of(b), chooser.alone(t), {}
for i = 1, count do left[ARGV[busy_at + 2 * i - 2]] = tonumber(ARGV[busy_at + 2 * i - 1]) end

-- writes
t.by = by
sweep_for_claim(b)
local d = dispatching.begin(b, agents, left, most, each_most, reserve_most)
local taken = dispatching.next(d, waiters)
local reserved = dispatching.choose(d, b.strategy or strategy, taken, waiters, take_up_ms)
local pushes, is_cut = dispatching.grant(d, push_ms)
dispatching.serve(b, strategy, serve_ms)
cascade(t)
finish(t)
return { 'ok', t.ms, (is_cut or d.unmet <= 0 or d.goes_on) and 1 or 0, reserved, pushes }
