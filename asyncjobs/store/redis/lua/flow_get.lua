#!lua flags=allow-oom
-- What is kept of some flows.
-- KEYS: the queue's.
-- ARGV: 2 and on: ids.
-- Result: for each all fields of flow:of:<id>, see flows.lua; empty for an unknown one.
local flows, answer = open_flows(0), {}
for position = 2, #ARGV do
  answer[position - 1] = redis.call('HGETALL', flows.keys(ARGV[position])[1])
end
return answer
