#!lua flags=allow-oom
-- Gives an order to the worker with this lease. The order stays with the lease, and each heartbeat
-- brings it: the signal only makes the worker ask at once.
-- KEYS: the queue's.
-- ARGV: 2 lease id; 3 kind, 'state' or 'weights'; 4 what is ordered.
-- Result: 1, or 0 when there is no such lease.
local lease, field = ARGV[2], ARGV[2] .. ':' .. ARGV[3]
if not redis.call('ZSCORE', WORKERS, lease) then return 0 end
-- Numbers only rise, so a worker tells a new order from one that it has followed, also when the
-- clock was set back.
local before = tonumber(string.match(redis.call('HGET', SEQUENCE, field) or '', '^%d+')) or 0
local number = math.max(store_now(), before + 1)
redis.call('HSET', SEQUENCE, field, string.format('%.0f', number) .. ' ' .. ARGV[4])
-- rule:22 an order is heard at once
redis.call('PUBLISH', string.sub(WAKE, 1, -5) .. 'control', '!order ' .. lease)
return 1
