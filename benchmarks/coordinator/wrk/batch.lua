-- Submits a hundred tasks a request.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local one = '{"kind":"task","payload":{"model":"llama2","prompt":"test prompt"}}'
local all = {}
for i = 1, 100 do all[i] = one end
wrk.body = '{"specs":[' .. table.concat(all, ",") .. "]}"
