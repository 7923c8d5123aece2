#!lua flags=allow-oom
-- Changes a flow as a whole, also when memory is full.
-- KEYS: the queue's.
-- ARGV: 2 what: 'start', 'cancel', 'reopen' or 'drop'; 3 id; 4 of 'reopen' for how many ends it waits.
-- Result: 1, or 0 when it is not in a state for that, or unknown.
local now, what, id = store_now(), ARGV[2], ARGV[3]
local base, flows = string.sub(WAKE, 1, -5), open_flows(now)
flows.check()
local state, key = flows.state(id), flows.keys(id)[1]
if not state then return 0 end
local is_final = state ~= 'opened' and state ~= 'running'
if what == 'start' then
  if state ~= 'opened' then return 0 end
  redis.call('ZREM', base .. 'flows:over', id)
  flows.move(id, 'running')
  flows.look(id)
  return 1
elseif what == 'cancel' then
  if is_final then return 0 end
  redis.call('HSET', key, 'cancelled', 1)
  -- rule:36 a flow that was never started ends when it is cancelled
  if state == 'opened' then flows.finish(id) end
  return 1
end
if not is_final then return 0 end
if what == 'drop' then
  flows.drop(id)
  return 1
end
local nodes = tonumber(ARGV[4])
if not nodes then return redis.error_reply('ERR bad number') end
redis.call('HDEL', key, 'ended')
redis.call('HSET', key, 'left', nodes, 'cancelled', 0)
flows.move(id, 'opened')
redis.call('ZADD', base .. 'flows:over', string.format('%.0f', now + UNSTARTED_MS), id)
local name, is_unique = unpack(redis.call('HMGET', key, 'name', 'unique'))
if is_unique == '1' then redis.call('HSETNX', base .. 'flows:names', name, id) end
return 1
