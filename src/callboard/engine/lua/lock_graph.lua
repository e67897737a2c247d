-- Tell who waits for whom: of one owner and those it leads to, or of up to `most` waits.
--
-- An edge is waiter, what, owner, and whether it is one of several of whom any would do. A
-- task in between is named `task:board:id`.
--
-- KEYS    format
-- ARGV    owner:str, most:int
-- RETURNS ok is_cut edges | no_namespace | newer_format
-- EVENTS  none
-- FLAGS   no-writes
-- include waits

local t, refusal = open(format_key, now)
if not t then return refusal end
local edges, seen, starts, is_cut = {}, {}, { owner }, false
if owner == '' then
  starts = {}
  local next_page, fields = unpack_values(call('HSCAN', locks.of(t).keys.waits, '0', 'COUNT', most))
  is_cut = next_page ~= '0'
  for i = 1, #fields, 2 do
    local name, letter = match(fields[i], '^([^\n]*)\n?(.?)$')
    if (letter == '' or letter == 't' or letter == 'r') and not seen[name] and #starts < most then
      seen[name] = true
      starts[#starts + 1] = name
    end
  end
  table.sort(starts)
end
local graph = waits.explore(t, starts, most)
for i = 1, #graph.order do waits.add_edges(edges, graph.nodes[graph.order[i]]) end
return { 'ok', (is_cut or graph.is_cut) and 1 or 0, edges }
