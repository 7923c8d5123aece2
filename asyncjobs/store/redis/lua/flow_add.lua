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
-- What has ended of a chunk of nodes, by their names. Each name counts as it stands: the same one may
-- come twice.
local function ended_of(first, last)
  local chunk, found = {}, {}
  for at = first, last, 2 do chunk[#chunk + 1] = ARGV[at] end
  for place, before in ipairs(redis.call('HMGET', ends, unpack(chunk))) do
    found[chunk[place]] = before
  end
  return found
end

local function undo(node, before)
  redis.call('HDEL', ends, node)
  redis.call('HINCRBY', key, 'e:' .. string.sub(before, 1, 1), -1)
  -- rule:36 a node that is tried again keeps its flow from nothing
  if string.sub(before, 2, 2) == '0' then redis.call('HINCRBY', key, 'bad', -1) end
end

local entered, listed = {}, {}
for first = 3, #ARGV, CHUNK do
  local last = math.min(first + CHUNK, #ARGV + 1) - 1
  local found = ended_of(first, last)
  for at = first, last, 2 do
    local node, stored = ARGV[at], ARGV[at + 1]
    local before = found[node]
    local job = before and string.sub(before, 3)
    -- rule:40 who has lost a job cannot undo that it has ended
    local stays = job and string.sub(stored, 1, #job) == job
    if before and not stays then
      undo(node, before)
      found[node] = false
    end
    if not stays then
      entered[#entered + 1], entered[#entered + 2] = node, stored
      listed[#listed + 1], listed[#listed + 2] = 0, node
    end
  end
end
in_chunks('HSET', nodes, entered)
in_chunks('ZADD', names, listed)
return 1
