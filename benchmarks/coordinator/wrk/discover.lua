-- Finds active workers; the argument bounds how many.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function init(args)
  wrk.body = '{"status":"active","agent_type":"worker","limit":' .. (args[1] or 10) .. "}"
end
