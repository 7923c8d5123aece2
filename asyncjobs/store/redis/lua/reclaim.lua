#!lua flags=allow-oom
-- rule:6 a reclaim is not refused at maxmemory
-- Ends the leases that are over and gives their jobs back to the queue, in their place.
-- Nothing else removes a lease, and nothing else counts a crash.
-- KEYS: the queue's.
-- ARGV: 2 grace_ms; 3 how many jobs at the most; 4 the id of a lease whose process is known to
--   have ended, or ''.
-- Result: {jobs returned, leases ended, ms until the next reclaim is due or -1, now}.
-- Leases that are looked through for those of a process that has ended; with more of them, those
-- behind end by their time.
local MOST_LEASES = 10000
local grace, limit, now = tonumber(ARGV[2]), tonumber(ARGV[3]), store_now()
local holds = touch_upkeep(now, grace)
local ended, again = 0, math.huge
local function end_lease(lease)
  -- A lease is taken out in one step, or not at all: a key of a wrong type fails here.
  redis.call('HEXISTS', WORKERS_INFO, lease)
  redis.call('SADD', LEAVING, lease)
  forget_lease(lease)
  ended = ended + 1
end
local dead = ARGV[4]
if dead ~= '' then
  -- Somebody has seen its process end, so no silence spares it. A heartbeat that is still on its
  -- way finds the lease gone.
  for _, lease in ipairs(redis.call('ZRANGE', WORKERS, 0, MOST_LEASES - 1)) do
    -- rule:2 a lease known to be dead ends under each of its names, and no other one does
    if lease == dead or string.sub(lease, 1, #dead + 1) == dead .. '.' then end_lease(lease) end
  end
end
local over = redis.call('ZRANGE', WORKERS, '-inf', '(' .. string.format('%.0f', now), 'BYSCORE',
  'LIMIT', 0, 100)
for position = 1, #over do
  local lease = over[position]
  local own = tonumber(redis.call('HGET', SEQUENCE, lease .. GRACE)) or grace
  -- rule:2 each lease is spared for its own grace
  local left = (holds[own] or 0) - now
  -- rule:2 after a silence reclaim waits for live workers
  if left > 0 then
    -- A lone worker that came back only after a whole grace would see this very pause as a silence,
    -- and would be held back for ever.
    -- rule:2 a lone reclaimer is held back once
    again = math.min(again, math.max(math.min(left, math.floor(own / 2)), 1))
  else
    end_lease(lease)
  end
end
local returned = 0
for _, consumer in ipairs(redis.call('SMEMBERS', LEAVING)) do
  if returned >= limit then return {returned, ended, 0, now} end
  local is_planned = redis.call('HEXISTS', SEQUENCE, consumer .. LEAVES) == 1
  -- rule:7 reclaim counts a crash
  -- rule:7 a planned death counts no crash
  local moved, all = return_pending(consumer, limit - returned, not is_planned)
  returned = returned + moved
  if all then
    redis.call('SREM', LEAVING, consumer)
    redis.call('HDEL', SEQUENCE, consumer .. LEAVES)
  end
end
if redis.call('EXISTS', LEAVING) == 1 or ended >= 100 then return {returned, ended, 0, now} end
-- The first lease behind those that are over and held back.
local from = '(' .. string.format('%.0f', now - 1)
local coming = redis.call('ZRANGE', WORKERS, from, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
if coming[2] then again = math.min(again, math.max(tonumber(coming[2]) - now + 1, 1)) end
-- rule:2 the store says when the next lease ends
return {returned, ended, again < math.huge and again or -1, now}
