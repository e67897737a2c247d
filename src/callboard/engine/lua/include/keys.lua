-- The names of all keys: the one place where the functions get them from.
-- `engine/keys.py` mirrors this file for reads, and a test compares the two.

local FORMAT = 'callboard:format'

-- What Lua itself offers, before `open.lua` gives it local names.
local function of_lua() return tonumber, tostring, pairs, next end

-- Suffixes of a board's own keys, behind `tasks:{board}`.
local BOARD_KEYS = {
  state = ':state', board = ':board', heads = ':heads', lane = ':lane:', leases = ':leases',
  reserved = ':reserved', scheduled = ':scheduled', blocked = ':blocked', input = ':input',
  done = ':done', failed = ':failed', cancelled = ':cancelled', results = ':results',
  unique = ':unique', unresolved = ':unresolved', deadlines = ':deadlines',
  dependents = ':dependents:', needs = ':needs:', attempts = ':attempts:', notes = ':notes:',
  extra = ':extra:', payload = ':payload:', outcomes = ':outcomes',
  outcome_times = ':outcome_times', waiters = ':waiters', parked = ':parked',
  journal = ':journal', fair = ':fair', fair_heads = ':heads:', aside = ':aside',
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
local function dispatch_bell(prefix) return prefix .. 'bell:dispatch' end
local function board_bell(prefix, board) return prefix .. 'bell:board:' .. board end
local function agent_bell(prefix, instance) return prefix .. 'bell:agent:' .. instance end
local function agent_key(prefix, agent) return prefix .. 'agent:' .. agent end
local function agents_active_key(prefix) return prefix .. 'agents:active' end
local function agents_known_key(prefix) return prefix .. 'agents:known' end
local function agents_alone_key(prefix) return prefix .. 'agents:alone' end
-- Of one capability, and of all agents that stand in those of their capabilities.
local function capability_keys(prefix, capability)
  return { all = prefix .. 'agents:capabilities', one = prefix .. 'agents:capability:' .. capability }
end
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
local function breaker_keys(prefix, component)
  return { all = prefix .. 'breakers', gates = prefix .. 'breakers:gates',
    breaker = prefix .. 'circuit_breakers:' .. component,
    channel = prefix .. 'events:errors:circuit_breakers' }
end
local function choice_keys(prefix, agent)
  return { runs = prefix .. 'agents:runs:' .. agent, decisions = prefix .. 'scheduler:decisions',
    counters = prefix .. 'scheduler:counters' }
end
local function cascades_key(prefix) return prefix .. 'cascades' end
local function completed_channel(prefix) return prefix .. 'events:tasks:completed' end
local function retry_channel(prefix, kind) return prefix .. 'events:errors:' .. kind end
local function context_keys(prefix, project)
  return { all = prefix .. 'contexts', due = prefix .. 'contexts:due',
    fields = prefix .. 'context:project:' .. project, about = prefix .. 'context:about:' .. project,
    channel = prefix .. 'events:context:updated' }
end
local function error_keys(prefix)
  return { log = prefix .. 'errors:tasks:log', training = prefix .. 'errors:training:', log_tail = ':log',
    task = prefix .. 'errors:task:', details = ':details', unique = prefix .. 'errors:unique_signatures',
    counters = prefix .. 'errors:counters', group = prefix .. 'errors:group:',
    minutes = prefix .. 'errors:minutes:', recent = prefix .. 'errors:recent',
    slot = prefix .. 'errors:recent:', correlations = prefix .. 'errors:correlations:log',
    announced = prefix .. 'errors:correlations:announced' }
end
local function metric_keys(prefix)
  return { series = prefix .. 'metrics:series:', all = prefix .. 'metrics:series',
    settings = prefix .. 'metrics:settings', sampled = prefix .. 'metrics:sampled',
    totals = prefix .. 'metrics:totals', training = prefix .. 'metrics:training:',
    progress = prefix .. 'events:training:progress' }
end
local function activity_keys(prefix, agent_type)
  return { shown = prefix .. 'agent:status:' .. agent_type, idle = prefix .. 'agents:idle:' .. agent_type,
    busy = prefix .. 'agents:busy:' .. agent_type, failed = prefix .. 'agents:failed:' .. agent_type }
end
local function message_keys(prefix, agent)
  local inbox = prefix .. 'inbox:' .. agent
  return { all = prefix .. 'inboxes', sent = prefix .. 'messages:timestamp',
    broadcasts = prefix .. 'broadcasts', cursors = prefix .. 'broadcasts:cursors',
    message = prefix .. 'message:', thread = prefix .. 'messages:thread:',
    by_sender = prefix .. 'messages:sender:', topic = prefix .. 'subscriptions:topic:',
    bell = prefix .. 'bell:inbox:' .. agent, broadcast_bell = prefix .. 'bell:broadcasts',
    reply_bell = prefix .. 'bell:reply:',
    waiting = inbox, state = inbox .. ':state', leases = inbox .. ':leases',
    delayed = inbox .. ':delayed', expiry = inbox .. ':expiry', finished = inbox .. ':finished',
    dead = inbox .. ':dead', received = prefix .. 'messages:receiver:' .. agent,
    peers = prefix .. 'peers:' .. agent, subordinates = prefix .. 'subordinates:' .. agent,
    topics = prefix .. 'subscriptions:agent:' .. agent }
end
local function access_keys(prefix)
  return { keys = prefix .. 'access:keys', revoked = prefix .. 'access:revoked',
    used = prefix .. 'access:used', gone = prefix .. 'access:gone',
    rate = prefix .. 'access:rate:', ticket = prefix .. 'access:ticket:',
    audit = prefix .. 'access:audit', served = prefix .. 'access:served' }
end
local function flow_keys(prefix)
  return { limits = prefix .. 'flow:limits', patterns = prefix .. 'flow:patterns',
    rates = prefix .. 'flow:rates', slots = prefix .. 'flow:slots:', lanes = prefix .. 'flow:lanes:' }
end
local function recurring_keys(prefix)
  return { all = prefix .. 'recurring', due = prefix .. 'recurring:due',
    recurrence = prefix .. 'recurrence:' }
end
local function lock_keys(prefix)
  return { lock = prefix .. 'lock:', queue = prefix .. 'lockqueue:', owner = prefix .. 'lockowner:',
    karma = prefix .. 'lockvictim:', released = prefix .. 'lockreleased:',
    all = prefix .. 'locks', globs = prefix .. 'locks:globs',
    due = prefix .. 'locks:due', waits = prefix .. 'locks:waits', waits_due = prefix .. 'locks:waits:due',
    forced = prefix .. 'locks:forced', pending = prefix .. 'locks:pending',
    unchecked = prefix .. 'locks:unchecked', requests = prefix .. 'locks:requests',
    incidents = prefix .. 'locks:incidents', bell = prefix .. 'bell:locks:' }
end
local function conflict_keys(prefix, id)
  return { all = prefix .. 'conflicts', open = prefix .. 'conflicts:open', due = prefix .. 'conflicts:due',
    resolved = prefix .. 'conflicts:resolved', strategies = prefix .. 'conflicts:strategies',
    by_kind = prefix .. 'conflicts:kind:', by_strategy = prefix .. 'conflicts:strategy:',
    pending = prefix .. 'conflicts:pending:', record = prefix .. 'conflicts:record:' .. id,
    votes = prefix .. 'conflicts:votes:' .. id, electorate = prefix .. 'conflicts:electorate:' .. id,
    log = prefix .. 'conflicts:log:' .. id }
end
