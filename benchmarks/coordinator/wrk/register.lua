-- Registers a thousand agents, again and again.
local headers = { ["Content-Type"] = "application/json" }
local n = 0
function request()
  n = (n + 1) % 1000
  return wrk.format("POST", "/agents/register", headers, '{"agent_id":"agent-' .. n
    .. '","agent_type":"worker","capabilities":["analysis","general"],'
    .. '"services":["task-execution"],"endpoints":{},"metadata":{"version":"1.0.0"}}')
end
