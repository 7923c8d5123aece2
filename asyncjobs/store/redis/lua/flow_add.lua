#!lua
-- Enters nodes of a flow. One that is there is replaced, and has not ended any more; but one whose
-- end is recorded stays, if it is the same job.
-- KEYS: the queue's.
-- ARGV: 2 id of the flow; then for each node: its name, and what is stored of it as in flows.lua.
-- Result: 1, or 0 for an unknown flow.
local flows, id = open_flows(store_now()), ARGV[2]
local key, nodes, names, ends = unpack(flows.keys(id))
if not flows.state(id) then return 0 end
for _, each in ipairs({nodes, ends}) do redis.call('HEXISTS', each, '') end
redis.call('ZCARD', names)
for at = 3, #ARGV, 2 do
  local before = redis.call('HGET', ends, ARGV[at])
  local job = before and string.sub(before, 3)
  -- rule:40 who has lost a job cannot undo that it has ended
  local stays = job and string.sub(ARGV[at + 1], 1, #job) == job
  if before and not stays then
    redis.call('HDEL', ends, ARGV[at])
    redis.call('HINCRBY', key, 'e:' .. string.sub(before, 1, 1), -1)
    -- rule:36 a node that is tried again keeps its flow from nothing
    if string.sub(before, 2, 2) == '0' then redis.call('HINCRBY', key, 'bad', -1) end
  end
  if not stays then
    redis.call('HSET', nodes, ARGV[at], ARGV[at + 1])
    redis.call('ZADD', names, 0, ARGV[at])
  end
end
return 1
