-- A page of a stream's points, the newest first, not older than a span.
--
-- `before` is a time in ms, which belongs to them, an entry's id behind a bracket, or `+`.
-- `project` names a training's series; empty is a series of `name` with its tags.
--
-- KEYS    format
-- ARGV    project:str, name:str, since_ms:int, before:str, span_ms:int, limit:int
-- RETURNS ok now_ms points | no_namespace | newer_format
-- EVENTS  none: a read
-- FLAGS   no-writes
-- include metrics

local t, refusal = open(format_key, now)
if not t then return refusal end
local keys = metric_keys(t.prefix)
local key = project == '' and keys.series .. name or keys.training .. project .. ':' .. name
local from = span_ms > 0 and math.max(since_ms, t.ms - span_ms) or since_ms
return { 'ok', t.ms, call('XREVRANGE', key, before, int(from), 'COUNT', limit) }
