#!lua flags=allow-oom
-- How many jobs the queue holds in each state, and how many leases are running.
-- KEYS: the queue's.
-- ARGV: none of its own.
-- Result: {ready 0, ready 1, ready 2, ready 3, running, scheduled, dead, workers, held}.
local now = store_now()
local ready, running = count_entries()
local held = redis.call('HLEN', UNIQUE_HELD)
if gates_here(now) then held = held + count_gated(GATES, ready) end
local from = '(' .. string.format('%.0f', now)
return {ready[1], ready[2], ready[3], ready[4], running, redis.call('ZCARD', SCHEDULED),
  redis.call('ZCARD', DEAD), redis.call('ZCOUNT', WORKERS, from, '+inf'),
  held + redis.call('HLEN', barriers_key('data'))}
