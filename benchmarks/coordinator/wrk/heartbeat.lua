-- Heartbeats of a thousand agents, which are there.
local n = 0
function request()
  n = (n + 1) % 1000
  return wrk.format("POST", "/agents/agent-" .. n .. "/heartbeat")
end
