-- Submits a task a request, as the documented call has it.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"task_data":{"model":"llama2","prompt":"test prompt"},"priority":"normal","requirements":{}}'
