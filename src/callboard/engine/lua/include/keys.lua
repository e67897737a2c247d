-- The names of all keys: the one place where the functions get them from.
-- `engine/keys.py` mirrors this file for reads, and a test compares the two.

local FORMAT = 'callboard:format'

-- Suffixes of a board's own keys, behind `tasks:{board}`.
local BOARD_KEYS = {
  state = ':state', board = ':board', heads = ':heads', lane = ':lane:', leases = ':leases',
  reserved = ':reserved', scheduled = ':scheduled', blocked = ':blocked', input = ':input',
  done = ':done', failed = ':failed', cancelled = ':cancelled', results = ':results',
  unique = ':unique', unresolved = ':unresolved', deadlines = ':deadlines',
  dependents = ':dependents:', needs = ':needs:', attempts = ':attempts:', notes = ':notes:',
  extra = ':extra:', payload = ':payload:', outcomes = ':outcomes',
  outcome_times = ':outcome_times', waiters = ':waiters', parked = ':parked',
  journal = ':journal',
}

-- Pure functions of prefix and board, so keeping them between calls is safe; bounded.
local board_cache, board_cached = {}, 0

local function board_keys(prefix, board)
  local name = prefix .. board
  local keys = board_cache[name]
  if keys then return keys end
  if board_cached >= 2000 then board_cache, board_cached = {}, 0 end
  local base = prefix .. 'tasks:' .. board
  keys = { name = board, tasks = base }
  for field, suffix in pairs(BOARD_KEYS) do keys[field] = base .. suffix end
  local tail = board == 'default' and '' or ':' .. board
  keys.retry = prefix .. 'retry:queue' .. tail
  keys.dead = prefix .. 'retry:dead_letter_queue' .. tail
  board_cache[name] = keys
  board_cached = board_cached + 1
  return keys
end

local function boards_key(prefix) return prefix .. 'boards' end
local function boards_due_key(prefix) return prefix .. 'boards:due' end
local function events_key(prefix) return prefix .. 'events' end
local function events_bell(prefix) return prefix .. 'bell:events' end
local function board_bell(prefix, board) return prefix .. 'bell:board:' .. board end
local function agent_bell(prefix, instance) return prefix .. 'bell:agent:' .. instance end
local function agent_key(prefix, agent) return prefix .. 'agent:' .. agent end
local function agents_active_key(prefix) return prefix .. 'agents:active' end
local function agents_known_key(prefix) return prefix .. 'agents:known' end
local function agents_due_key(prefix) return prefix .. 'agents:due' end
local function heartbeats_key(prefix) return prefix .. 'agents:heartbeats' end
local function instances_key(prefix, agent) return prefix .. 'agents:instances:' .. agent end
local function held_key(prefix, agent) return prefix .. 'held:' .. agent end
local function parked_key(prefix, agent) return prefix .. 'parked:' .. agent end
local function reserved_key(prefix, agent) return prefix .. 'reserved:' .. agent end
local function request_key(prefix, request) return prefix .. 'requests:' .. request end
local function operation_key(prefix, operation) return prefix .. 'operations:' .. operation end
local function run_keys(prefix, run)
  return { all = prefix .. 'runs', due = prefix .. 'runs:due', run = prefix .. 'run:' .. run,
    told = prefix .. 'told:' .. run }
end
local function team_keys(prefix, team)
  return { all = prefix .. 'teams', versions = prefix .. 'team:' .. team }
end
local function cascades_key(prefix) return prefix .. 'cascades' end
local function completed_channel(prefix) return prefix .. 'events:tasks:completed' end
local function retry_channel(prefix, kind) return prefix .. 'events:errors:' .. kind end
