-- Subscribe an agent to a topic, or end that; what was published before stays where it is.
--
-- `types` are message types with commas, empty for all; again replaces them.
--
-- KEYS    format
-- ARGV    agent:str, topic:str, verb:str, types:str
-- RETURNS ok changed | too_many what limit | no_namespace | newer_format
-- EVENTS  inbox:changed
-- REPEAT  by state
-- include message

local TOPICS_MOST = 1000
local t, refusal = open(format_key, now)
if not t then return refusal end
local box = messages.box(t, agent)
local keys = box.keys
local topic_key = keys.topic .. topic
local is_known = call('ZSCORE', keys.topics, topic) ~= false
local before = call('HGET', topic_key, agent)
if verb == 'add' and not is_known then
  if call('ZCARD', keys.topics) >= TOPICS_MOST then return { 'too_many', 'topics', TOPICS_MOST } end
  if call('HLEN', topic_key) >= MSG_RECIPIENTS_MOST then
    return { 'too_many', 'subscribers', MSG_RECIPIENTS_MOST }
  end
end
touch('XLEN', events_key(t.prefix))

-- writes
t.by = agent
local is_changed = verb == 'remove' and is_known
  or verb == 'add' and (not before or match(before, '|(.*)$') ~= types)
if is_changed then
  messages.use(t, box)
  if verb == 'add' then
    zput(t, keys.topics, topic, t.ms)
    hput(t, topic_key, agent, t.ms .. '|' .. types)
    if box.is_new then box.seq_changed = true end
  else
    zput(t, keys.topics, topic, false)
    hput(t, topic_key, agent, false)
  end
  messages.due(box, t.ms + 1000)
  fact(t, 'inbox:changed', '', agent, verb == 'add' and 'subscribed' or 'unsubscribed', agent, 0, topic)
  messages.finish(t)
end
return { 'ok', is_changed and 1 or 0 }
