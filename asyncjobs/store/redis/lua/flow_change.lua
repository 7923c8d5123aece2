#!lua flags=allow-oom
-- Changes a flow as a whole, also when memory is full.
-- KEYS: the queue's.
-- ARGV: 2 what: 'start', 'cancel', 'reopen' or 'drop'; 3 id. Then of 'reopen': 4 for how many ends it
--   waits; 5 when it has ended, or '' for any time; 6 how many nodes it has no longer. Of 'start':
--   4 the flow with its queue; 5 id_ttl_ms; 6 how many jobs the history keeps; then the barriers:
--   queue ('' for this one) and id, each.
-- Result: 1, or 0 when it is not in a state for that, or unknown. Of 'start': 2 when its queue has
--   something in its outbox.
local now, what, id = store_now(), ARGV[2], ARGV[3]
local base, flows = string.sub(WAKE, 1, -5), open_flows(now)
flows.check()
local state, key = flows.state(id), flows.keys(id)[1]
if not state then return 0 end
local is_final = state ~= 'opened' and state ~= 'running'
if what == 'start' then
  local barriers = open_barriers(now)
  barriers.check()
  if state == 'opened' then
    redis.call('ZREM', base .. 'flows:over', id)
    flows.move(id, 'running')
    flows.look(id)
  end
  for at = 7, #ARGV, 2 do
    if ARGV[at] == '' then
      barriers.start(ARGV[at + 1], ARGV[4])
    else
      -- rule:36 a flow that runs is started in all its queues, though its starter dies
      post_to(ARGV[at], 's', ARGV[at + 1], ARGV[4])
    end
  end
  barriers.let_go(MOST_LET_GO, tonumber(ARGV[5]), tonumber(ARGV[6]))
  -- rule:1 what the start of a flow lets go in its home signals
  if barriers.is_ready() or barriers.is_earlier() or barriers.is_left then wake() end
  -- Also what jobs of this flow have noted that were refused while they were stored.
  -- rule:37 who starts a flow hears that something waits for other queues
  return 1 + redis.call('EXISTS', outbox_key('outbox'))
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
local nodes, gone = tonumber(ARGV[4]), tonumber(ARGV[6])
if not nodes or not gone then return redis.error_reply('ERR bad number') end
-- rule:36 a flow that has run again meanwhile is not opened for who has not seen that
if ARGV[5] ~= '' and redis.call('HGET', key, 'ended') ~= ARGV[5] then return 0 end
redis.call('HDEL', key, 'ended')
if gone > 0 then redis.call('HINCRBY', key, 'nodes', -gone) end
redis.call('HSET', key, 'left', nodes, 'cancelled', 0)
flows.move(id, 'opened')
redis.call('ZADD', base .. 'flows:over', string.format('%.0f', now + UNSTARTED_MS), id)
local name, is_unique = unpack(redis.call('HMGET', key, 'name', 'unique'))
if is_unique == '1' then redis.call('HSETNX', base .. 'flows:names', name, id) end
return 1
