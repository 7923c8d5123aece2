#!lua flags=allow-oom
-- What is paused in the queue.
-- KEYS: the queue's.
-- ARGV: none of its own.
-- Result: {name of a function or '', value, ...}, as paused.lua says.
return redis.call('HGETALL', PAUSED)
