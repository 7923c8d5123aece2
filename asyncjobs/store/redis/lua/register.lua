#!lua flags=allow-oom
-- rule:6 a register is not refused at maxmemory
-- Enters a new lease into the queue. Streams and their groups are made for their first jobs only,
-- for four empty ones would take 7 KB of each queue that was ever used.
-- KEYS: the queue's.
-- ARGV: 2 lease id; 3 duration_ms; 4 what inspection shows of the worker.
-- Result: the store's time in ms.
local now, grace = store_now(), math.floor(tonumber(ARGV[3]) * 2 / 5)
touch_upkeep(now, grace)
-- The entry comes last: it is the lease, and what fails before enters nobody.
redis.call('ZCARD', WORKERS)
redis.call('HSET', WORKERS_INFO, ARGV[2], ARGV[4])
redis.call('HSETNX', SEQUENCE, ARGV[2], 0)
redis.call('HSET', SEQUENCE, ARGV[2] .. GRACE, grace)
-- From now on a silence is measured by this grace too.
redis.call('HSETNX', UPKEEP, string.format('hold:%.0f', grace), 0)
redis.call('ZADD', WORKERS, string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
return now
