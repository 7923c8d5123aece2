#!lua flags=allow-oom
-- Ends the leases that are over and gives their jobs back to the queue, in their place.
-- Nothing else removes a lease, and nothing else counts a crash.
-- KEYS: the queue's.
-- ARGV: 2 grace_ms; 3 how many jobs at the most.
-- Result: {jobs returned, leases ended, ms until the next call is due or -1, now}.
local grace, limit, now = tonumber(ARGV[2]), tonumber(ARGV[3]), store_now()
touch_upkeep(now, grace)
local hold = tonumber(redis.call('HGET', UPKEEP, 'hold') or '0')
local over = redis.call('ZRANGE', WORKERS, '-inf', '(' .. string.format('%.0f', now), 'BYSCORE',
  'LIMIT', 0, 100)
local ended = 0
if #over > 0 then
  if now < hold then
    -- Asked again only after a whole grace, this very call would look like a silence, and
    -- a lone worker would be held back for ever.
    return {0, 0, math.max(math.min(hold - now, math.floor(grace / 2)), 1), now}
  end
  for position = 1, #over do
    redis.call('SADD', LEAVING, over[position])
    redis.call('ZREM', WORKERS, over[position])
    redis.call('HDEL', WORKERS_INFO, over[position])
    redis.call('HDEL', SEQUENCE, over[position], over[position] .. PARKED)
    ended = ended + 1
  end
end
local returned = 0
for _, consumer in ipairs(redis.call('SMEMBERS', LEAVING)) do
  if returned >= limit then return {returned, ended, 0, now} end
  local moved, all = return_pending(consumer, limit - returned, true)
  returned = returned + moved
  if all then redis.call('SREM', LEAVING, consumer) end
end
if redis.call('EXISTS', LEAVING) == 1 or #over == 100 then return {returned, ended, 0, now} end
local _, next_end = look_at_leases('')
if next_end < 0 then return {returned, ended, -1, now} end
return {returned, ended, math.max(next_end - now + 1, 1), now}
