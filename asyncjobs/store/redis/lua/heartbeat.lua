#!lua flags=allow-oom
-- rule:6 a heartbeat is not refused at maxmemory
-- Renews a lease that still exists, also one that is over: only reclaim removes it.
-- KEYS: the queue's.
-- ARGV: 2 lease id; 3 duration_ms; 4 1 when its worker was told to end: if it dies before it has
--   left, no job is charged with a crash; 5 what inspection shows of it from now on, or ''.
-- Result: {1 or 0 when lost, now, next lease end of others or -1, ids of held jobs to
--   cancel, 1 when jobs are ready or overdue, orders}. That end is now while jobs of an ended lease
--   wait to be given back: the worker that began to reclaim them may be dead.
local lease, now = ARGV[2], store_now()
touch_upkeep(now, math.floor(tonumber(ARGV[3]) * 2 / 5))
local is_known, next_end = look_at_leases(lease)
-- rule:2 a heartbeat reports a reclaim that nobody has ended
if redis.call('EXISTS', LEAVING) == 1 then next_end = now end
-- rule:2 a lease that is over may be renewed
-- rule:2 a heartbeat never brings an entry back
if not is_known then return {0, now, next_end, {}, 0, {}} end
redis.call('ZADD', WORKERS, string.format('%.0f', now + tonumber(ARGV[3])), lease)
if ARGV[4] == '1' then redis.call('HSET', SEQUENCE, lease .. LEAVES, 1) end
-- rule:8 a heartbeat returns all marks
local cancels = marks_of(lease, -1)
local is_ready = redis.call('ZCOUNT', SCHEDULED, '-inf', string.format('%.0f', now)) > 0
is_ready = is_ready or has_returned()
for slot = 1, 4 do is_ready = is_ready or has_new(slot) end
if not is_ready and redis.call('EXISTS', GATED) == 1 then
  local gates = gates_here(now)
  local due = gates.next_due(nil)
  -- rule:1 a heartbeat names queues with lanes in line, or that are open by now
  is_ready = gates.first_in_line(0) ~= nil or due ~= nil and due <= now
end
-- rule:36 a heartbeat reports what a fallen barrier lets go
is_ready = is_ready or redis.call('HEXISTS', ENDS, '') == 1
-- rule:18 a heartbeat calls nobody to a paused queue
is_ready = (is_ready or is_resuming()) and may_hand_out()
if ARGV[5] ~= '' then redis.call('HSET', WORKERS_INFO, lease, ARGV[5]) end
-- rule:22 a heartbeat brings the orders
local orders = redis.call('HMGET', SEQUENCE, lease .. ORDERS[1], lease .. ORDERS[2])
-- rule:8 a heartbeat returns the marks
return {1, now, next_end, cancels, is_ready and 1 or 0, orders}
