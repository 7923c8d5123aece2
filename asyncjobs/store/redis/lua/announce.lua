#!lua flags=allow-oom
-- Adds queues to the list of all queues, also when memory is full: a worker that starts then
-- must not be refused.
-- KEYS: 1 the list of all queues.
-- ARGV: 2 and on: names of queues.
-- Result: how many were new.
local names, added = {}, 0
for position = 2, #ARGV do names[position - 1] = ARGV[position] end
for first = 1, #names, CHUNK do
  local last = math.min(first + CHUNK - 1, #names)
  added = added + redis.call('SADD', KEYS[1], unpack(names, first, last))
end
return added
