#!lua flags=allow-oom
-- The leases of the queue, over or not, and what they say about their workers.
-- KEYS: the queue's.
-- ARGV: 2 how many at the most.
-- Result: {now, {lease, end in ms, info, ...}}.
local found, answer = redis.call('ZRANGE', WORKERS, 0, tonumber(ARGV[2]) - 1, 'WITHSCORES'), {}
for position = 1, #found, 2 do
  answer[#answer + 1] = found[position]
  answer[#answer + 1] = tonumber(found[position + 1])
  answer[#answer + 1] = redis.call('HGET', WORKERS_INFO, found[position]) or ''
end
return {store_now(), answer}
