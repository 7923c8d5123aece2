#!lua flags=allow-oom
-- Resumes the queue, or one of its job functions.
-- KEYS: the queue's.
-- ARGV: 2 name of the function, '' for the whole queue.
-- Result: {1 if it was paused, 1 when more of its jobs are still set aside}. Then the call is made
--   again; if nobody makes it, exchanges go on with it.
local name = ARGV[2]
local before = redis.call('HGET', PAUSED, name)
if not before then return {0, 0} end
local was_paused, is_all = string.sub(before, 1, 1) == 'p', true
if name == '' then
  redis.call('HDEL', PAUSED, name)
else
  check_returns()
  redis.call('HEXISTS', CRASHES, '')
  redis.call('HSET', PAUSED, name, 'r' .. string.sub(before, 2))
  local _
  _, is_all = bring_back(name, MOST_MOVED)
end
-- rule:18 who resumes wakes a worker
wake()
return {was_paused and 1 or 0, is_all and 0 or 1}
