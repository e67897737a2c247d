-- Read conflicts as they stand; each a list of its fields and values, its votes, its trail
-- and who may vote; empty where there is none. As many as fit into 8 MiB, one at least.
--
-- `which` is open, resolved, all, kind:, strategy: or pending: and a name, the newest first,
-- or ids, where they are given.
--
-- KEYS    format
-- ARGV    which:str, skip:int, limit:int, trail:int, count:int, ids:rows
-- RETURNS ok now_ms total conflict | no_namespace | newer_format
-- EVENTS  none: it only reads
-- FLAGS   no-writes
-- include conflict

local t, refusal = open(format_key, now)
if not t then return refusal end
local ids, total = {}, count
if which == 'ids' then
  for i = ids_at, ids_at + count - 1 do ids[#ids + 1] = ARGV[i] end
else
  local keys = conflict_keys(t.prefix, '')
  local set, name = match(which, '^(%a+):(.*)$')
  local key = set and ({ kind = keys.by_kind, strategy = keys.by_strategy, pending = keys.pending })[set] .. name
    or keys[which]
  total = call('ZCARD', key)
  ids = call('ZREVRANGE', key, skip, skip + limit - 1)
end
local answer, left = { 'ok', t.ms, total }, 8388608
for i = 1, #ids do
  if left < 0 then break end
  local keys = conflict_keys(t.prefix, ids[i])
  local fields, conflict = call('HGETALL', keys.record), {}
  if #fields > 0 then
    conflict = { ids[i], fields, call('HGETALL', keys.votes),
      trail == 1 and call('LRANGE', keys.log, 0, -1) or {},
      trail == 1 and call('SMEMBERS', keys.electorate) or {} }
    for k = 1, #fields do left = left - #fields[k] end
    left = left - #conflict[3] * 50 -- votes are short
  end
  answer[#answer + 1] = conflict
end
return answer
