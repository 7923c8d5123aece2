#!lua flags=allow-oom
-- A lease leaves of its own will: what it still holds is given back, no crash counted.
-- KEYS: 1-24 the queue.
-- ARGV: 2 lease id; 3 how many jobs to give back at the most in this call.
-- Result: 1 when the lease is gone, 0 when the call must be repeated.
local lease = ARGV[2]
if not redis.call('ZSCORE', WORKERS, lease) then return 1 end
local _, all = return_pending(lease, tonumber(ARGV[3]), false)
if not all then return 0 end
redis.call('ZREM', WORKERS, lease)
redis.call('HDEL', WORKERS_INFO, lease)
redis.call('HDEL', SEQUENCE, lease)
return 1
