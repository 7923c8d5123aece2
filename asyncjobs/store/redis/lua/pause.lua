#!lua flags=allow-oom
-- Pauses the queue, or one of its job functions, also when memory is full: then above all.
-- KEYS: the queue's; then the list of all queues.
-- ARGV: 2 name of the function, '' for the whole queue; 3 who and why, as JSON; 4 the queue's name.
-- Result: {1 if it was not paused, since when in ms}, or {-1, 0} when too many functions are.
local MOST_FUNCTIONS = 1000
local now, name = store_now(), ARGV[2]
local before = redis.call('HGET', PAUSED, name)
if not before and redis.call('HLEN', PAUSED) >= MOST_FUNCTIONS then return {-1, 0} end
-- Who pauses it again says a new reason. It is paused since the first time.
local since = string.match(before or '', '^p(%d+) ')
redis.call('HSET', PAUSED, name, 'p' .. (since or string.format('%.0f', now)) .. ' ' .. ARGV[3])
-- It must be found on the list, also when it is paused before its first job.
redis.call('SADD', KEYS[OWN_KEYS + 1], ARGV[4])
return {since and 0 or 1, tonumber(since) or now}
