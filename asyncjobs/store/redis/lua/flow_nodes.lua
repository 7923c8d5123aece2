#!lua flags=allow-oom
-- Nodes of a flow, with their ends.
-- KEYS: the queue's.
-- ARGV: 2 id of the flow; 3 'page' or 'look'; of a page: 4 the last node before, or ''; 5 how many at
--   the most; else: 4 and on, names of nodes.
-- Result: {1 when none is left, {name, what is stored of it or '', its end or '', ...}}.
local _, nodes, names, ends = unpack(open_flows(0).keys(ARGV[2]))
local wanted, is_all = {}, true
if ARGV[3] == 'page' then
  local from, most = ARGV[4] == '' and '-' or '(' .. ARGV[4], tonumber(ARGV[5])
  wanted = redis.call('ZRANGE', names, from, '+', 'BYLEX', 'LIMIT', 0, most + 1)
  is_all = #wanted <= most
  if not is_all then wanted[#wanted] = nil end
else
  for position = 4, #ARGV do wanted[#wanted + 1] = ARGV[position] end
end
local answer = {}
for first = 1, #wanted, CHUNK do
  local last = math.min(first + CHUNK - 1, #wanted)
  local stored = redis.call('HMGET', nodes, unpack(wanted, first, last))
  local ended = redis.call('HMGET', ends, unpack(wanted, first, last))
  for offset = 1, #stored do
    answer[#answer + 1] = wanted[first + offset - 1]
    answer[#answer + 1] = stored[offset] or ''
    answer[#answer + 1] = ended[offset] or ''
  end
end
return {is_all and 1 or 0, answer}
