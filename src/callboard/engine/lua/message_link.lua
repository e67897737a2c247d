-- Add, remove or set the peers or the subordinates of an agent: to whom protocols let it write.
--
-- KEYS    format
-- ARGV    relation:str, agent:str, verb:str, by:str, count:int, names:rows
-- RETURNS ok changed total | too_many what limit | no_namespace | newer_format
-- EVENTS  inbox:changed
-- REPEAT  by state
-- include message

local LINKS_MOST = 1000
local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
local key = box.keys[relation]
local before, wanted, total, changed = {}, {}, 0, 0
local rows = call('ZRANGE', key, 0, -1)
for i = 1, #rows do before[rows[i]] = true end
for i = 1, count do wanted[ARGV[names_at + i - 1]] = true end
local add, remove = {}, {}
for name in pairs(wanted) do
  if verb == 'remove' then
    if before[name] then remove[#remove + 1] = name end
  elseif not before[name] then
    add[#add + 1] = name
  end
end
if verb == 'set' then
  for name in pairs(before) do
    if not wanted[name] then remove[#remove + 1] = name end
  end
end
table.sort(add)
table.sort(remove)
total, changed = #rows + #add - #remove, #add + #remove
if #add > 0 and total > LINKS_MOST then return { 'too_many', relation, LINKS_MOST } end
touch('XLEN', events_key(t.prefix))

-- writes
t.by = by
if changed > 0 then
  messages.use(t, box)
  for i = 1, #add do zput(t, key, add[i], t.ms) end
  for i = 1, #remove do zput(t, key, remove[i], false) end
  if #add > 0 then
    fact(t, 'inbox:changed', '', agent, relation .. '_added', agent, 0, concat(add, ','))
  end
  if #remove > 0 then
    fact(t, 'inbox:changed', '', agent, relation .. '_removed', agent, 0, concat(remove, ','))
  end
  if box.is_new then box.seq_changed = true end
  messages.due(box, t.ms + 1000)
  messages.finish(t)
end
return { 'ok', changed, total }
