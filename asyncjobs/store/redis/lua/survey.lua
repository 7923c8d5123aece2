#!lua flags=allow-oom
-- Names of queues, a few hundred at a time, in turn. Only one of all askers gets them: the one that
-- has begun. Another one takes over when the first has not asked for a while.
-- KEYS: 1 the list of all queues; 2 who looks through it, and where it is.
-- ARGV: 2 who asks; 3 about how many names; 4 for how many ms it keeps the turn.
-- Result: {1 when it is the turn of who asks, 1 when these were the last names, names}.
local turn = redis.call('HMGET', KEYS[2], 'asker', 'cursor')
if turn[1] and turn[1] ~= ARGV[2] then return {0, 0, {}} end
local found = redis.call('SSCAN', KEYS[1], turn[2] or '0', 'COUNT', ARGV[3])
redis.call('HSET', KEYS[2], 'asker', ARGV[2], 'cursor', found[1])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {1, found[1] == '0' and 1 or 0, found[2]}
