#!lua flags=allow-oom
-- Scheduled jobs that were put back, since no worker that took them has their function.
-- KEYS: the queue's.
-- ARGV: 2 how many jobs to look at, those that are due first; 3 what stands in each envelope
--   that was put back.
-- Result: envelopes, at most 1 MiB of them. What marks one may also stand among a job's
--   arguments: whoever reads them has to look again.
local answer, size = {}, 0
for _, id in ipairs(redis.call('ZRANGE', SCHEDULED, 0, tonumber(ARGV[2]) - 1)) do
  local stored = redis.call('HGET', SCHEDULED_DATA, id)
  if stored and size < 1048576 and string.find(stored, ARGV[3], 1, true) then
    answer[#answer + 1] = string.sub(stored, 2)
    size = size + #stored
  end
end
return answer
