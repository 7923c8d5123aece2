#!lua flags=allow-oom
-- rule:6 a deregister is not refused at maxmemory
-- A lease leaves by itself. The jobs that it still holds are given back. Only those that are
-- named are charged with a crash.
-- KEYS: the queue's.
-- ARGV: 2 lease id; 3 how many jobs to give back at the most in this call; then for each
--   job that is charged with a crash its priority and its entry.
-- Result: 1 when the lease is gone, 0 when the call must be repeated.
local lease = ARGV[2]
if not redis.call('ZSCORE', WORKERS, lease) then return 1 end
check_returns()
redis.call('HEXISTS', WORKERS_INFO, '')
redis.call('HEXISTS', SEQUENCE, '')
for position = 4, #ARGV, 2 do
  local slot, entry = tonumber(ARGV[position]) + 1, ARGV[position + 1]
  local field = (slot - 1) .. ':' .. entry
  local mine = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, lease)
  -- rule:7 a farewell charges the job that it names
  -- rule:7 a farewell charges only what the lease still holds
  if not mine.err and #mine > 0 then
    if slot == 5 then field = 'g:' .. redis.call('XRANGE', READY[5], entry, entry)[1][2][1] end
    charge(field)
  end
end
-- rule:7 leaving counts no crash
local _, all = return_pending(lease, tonumber(ARGV[3]), false)
if not all then return 0 end
forget_lease(lease)
redis.call('HDEL', SEQUENCE, lease .. LEAVES)
return 1
