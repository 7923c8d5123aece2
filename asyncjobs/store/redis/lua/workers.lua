#!lua flags=allow-oom
-- The leases of the queue, over or not, and what they say about their workers.
-- KEYS: the queue's.
-- ARGV: 2 how many at the most.
-- Result: {now, {lease, end in ms, info, jobs that it runs, 1 when it was told to end, the state
--   that was ordered or '', ...}}.
local running = {}
for slot = 1, 5 do
  local pending = redis.pcall('XPENDING', READY[slot], GROUP)
  for _, held in ipairs(not pending.err and pending[4] or {}) do
    running[held[1]] = (running[held[1]] or 0) + tonumber(held[2])
  end
end
local found, answer = redis.call('ZRANGE', WORKERS, 0, tonumber(ARGV[2]) - 1, 'WITHSCORES'), {}
for position = 1, #found, 2 do
  local lease = found[position]
  local told = redis.call('HMGET', SEQUENCE, lease .. LEAVES, lease .. ORDERS[1])
  answer[#answer + 1] = lease
  answer[#answer + 1] = tonumber(found[position + 1])
  answer[#answer + 1] = redis.call('HGET', WORKERS_INFO, lease) or ''
  answer[#answer + 1] = running[lease] or 0
  answer[#answer + 1] = told[1] and 1 or 0
  answer[#answer + 1] = told[2] or ''
end
return {store_now(), answer}
