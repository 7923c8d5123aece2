#!lua flags=allow-oom
-- Stores progress notes of jobs that the lease still holds.
-- KEYS: the queue's.
-- ARGV: 2 lease id; then for each job: id, place ('<p>:<entry>'), note.
-- Result: how many notes were stored.
if not redis.call('ZSCORE', WORKERS, ARGV[2]) then return 0 end
local stored = 0
for at = 3, #ARGV, 3 do
  local slot, entry = tonumber(string.sub(ARGV[at + 1], 1, 1)) + 1, string.sub(ARGV[at + 1], 3)
  local held = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, ARGV[2])
  if not held.err and #held == 1 then
    redis.call('HSET', PROGRESS, ARGV[at], ARGV[at + 2])
    stored = stored + 1
  end
end
return stored
