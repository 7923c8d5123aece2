#!lua flags=allow-oom
-- Scheduled jobs that workers put back because they do not have their function.
-- KEYS: the queue's.
-- ARGV: 2 how many jobs to look at, those that are due first; 3 the mark in the envelope of a job
--   that was put back.
-- Result: envelopes, at most 1 MiB of them. Arguments of a job may contain the mark, too, so the
--   caller has to check them.
local answer, size = {}, 0
for _, id in ipairs(redis.call('ZRANGE', SCHEDULED, 0, tonumber(ARGV[2]) - 1)) do
  local stored = redis.call('HGET', SCHEDULED_DATA, id)
  if stored and size < 1048576 and string.find(stored, ARGV[3], 1, true) then
    answer[#answer + 1] = string.sub(stored, 2)
    size = size + #stored
  end
end
return answer
