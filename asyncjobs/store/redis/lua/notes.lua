#!lua flags=allow-oom
-- The notes of jobs that the lease still holds.
-- KEYS: the queue's; then for each job the key of its notes.
-- ARGV: 2 lease id; then for each job: place ('<p>:<entry>').
-- Result: for each job {name, value, ...}, or 0 when the lease does not hold it.
local lease, FIRST = ARGV[2], 3
local is_known = redis.call('ZSCORE', WORKERS, lease)
local answer = {}
for at = FIRST, #ARGV do
  local job = at - FIRST + 1
  local slot, entry = tonumber(string.sub(ARGV[at], 1, 1)) + 1, string.sub(ARGV[at], 3)
  answer[job] = 0
  if is_known then
    local held = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, lease)
    if not held.err and #held == 1 then
      -- What a foreign writer has put there holds no notes, and costs no other job its own.
      local found = redis.pcall('HGETALL', KEYS[OWN_KEYS + job])
      answer[job] = found.err and {} or found
    end
  end
end
return answer
