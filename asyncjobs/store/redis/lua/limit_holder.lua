#!lua flags=allow-oom
-- Permits outside of jobs are kept and given back at maxmemory, too.
-- Keeps the permits of somebody who is no job, or gives them back.
-- KEYS: the queue's.
-- ARGV: 2 who it is; 3 for how many ms from now on, or '' to give them back.
-- Result: 1 when it had permits, else 0.
local now, holder = store_now(), ARGV[2]
local gates = gates_anyway(now)
gates.check()
gates.drop_holders(1000)
local holders = gates.base .. 'holders'
local is_in = redis.call('ZSCORE', holders, holder) and 1 or 0
if is_in == 1 and ARGV[3] ~= '' then
  -- Permits outside of jobs last as long as they were asked for last.
  redis.call('ZADD', holders, string.format('%.0f', now + tonumber(ARGV[3])), holder)
elseif is_in == 1 then
  gates.drop_holder(holder)
end
-- A permit that is given back outside of jobs signals.
if gates.is_ready then wake() end
return is_in
