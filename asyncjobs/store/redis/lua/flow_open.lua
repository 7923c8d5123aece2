#!lua
-- Enters a flow, if no other one holds its name.
-- KEYS: the queue's; then the list of all queues.
-- ARGV: 2 id; 3 name; 4 how many ends it waits for; 5 for how many ms it is kept; 6 definition; 7 '1'
--   when its name is its own while it goes on; 8 the queue's name.
-- Result: '' when it is entered, or was before; else the id of the flow that holds the name.
local now, id, name = store_now(), ARGV[2], ARGV[3]
local nodes, keep = tonumber(ARGV[4]), tonumber(ARGV[5])
if not nodes or not keep then return redis.error_reply('ERR bad number') end
local base, flows = string.sub(WAKE, 1, -5), open_flows(now)
flows.check()
if flows.state(id) then return '' end
local holder = redis.call('HGET', base .. 'flows:names', name)
-- rule:36 of the flows with one name one goes on at a time
if ARGV[7] == '1' and holder then return holder end
local at = string.format('%.0f', now)
redis.call('HSET', flows.keys(id)[1], 'name', name, 'state', 'opened', 'nodes', nodes, 'left', nodes,
  'bad', 0, 'opened', at, 'keep', keep, 'definition', ARGV[6], 'unique', ARGV[7], 'cancelled', 0)
redis.call('ZADD', base .. 'flows:opened', at, id)
redis.call('ZADD', base .. 'flows:over', string.format('%.0f', now + UNSTARTED_MS), id)
if ARGV[7] == '1' then redis.call('HSET', base .. 'flows:names', name, id) end
redis.call('SADD', KEYS[OWN_KEYS + 1], ARGV[8])
return ''
