#!lua flags=allow-oom
-- How many jobs the queue holds in each state, and how many leases are running.
-- KEYS: the queue's.
-- ARGV: none of its own.
-- Result: {ready 0, ready 1, ready 2, ready 3, running, scheduled, dead, workers}.
local now, ready, running = store_now(), {0, 0, 0, 0}, 0
for slot = 1, 4 do
  local length = redis.call('XLEN', READY[slot])
  ready[slot] = length
  if length > 0 then
    -- XINFO's lag turns NULL after an XDEL; the summary of XPENDING stays exact.
    local pending = redis.pcall('XPENDING', READY[slot], GROUP)
    if not pending.err and pending[1] > 0 then
      local held = pending[1]
      for _, consumer in ipairs(pending[4]) do
        if is_waiting(consumer[1]) then held = held - tonumber(consumer[2]) end
      end
      ready[slot] = length - held
      running = running + held
    end
  end
end
local from = '(' .. string.format('%.0f', now)
return {ready[1], ready[2], ready[3], ready[4], running, redis.call('ZCARD', SCHEDULED),
  redis.call('ZCARD', DEAD), redis.call('ZCOUNT', WORKERS, from, '+inf')}
