-- The audit log: who asked for what, and how it ended.
-- include open

local audit = {}

do
  local AUDIT_MOST = 100000
  local AUDIT_MS = 7776000000 -- 90 days

  -- Fails with WRONGTYPE, before anything was written, where the log is somebody else's.
  function audit.touch(t) touch('XLEN', access_keys(t.prefix).audit) end

  -- Appends an entry of these fields, numbered by the time, which never goes back; what is
  -- too much or too old goes.
  function audit.append(t, fields)
    local log = access_keys(t.prefix).audit
    local id = call('XADD', log, 'MAXLEN', '~', AUDIT_MOST, int(t.ms) .. '-*', unpack_values(fields))
    call('XTRIM', log, 'MINID', '~', int(t.ms - AUDIT_MS))
    call('PEXPIRE', log, AUDIT_MS)
    return id
  end
end
