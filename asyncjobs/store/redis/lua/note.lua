#!lua flags=allow-oom
-- rule:6 a note is not refused at maxmemory
-- Keeps notes of jobs that the lease still holds.
-- KEYS: the queue's; then for each note the key of the job's notes.
-- ARGV: 2 lease id; then for each note: id, place ('<p>:<entry>'), name, value.
-- Result: one character for each note: '1' kept, '0' the lease does not hold the job.
local lease, FIELDS, FIRST = ARGV[2], 4, 3
local is_known = redis.call('ZSCORE', WORKERS, lease)
local answer, names = {}, {}
for at = FIRST, #ARGV, FIELDS do
  local note = (at - FIRST) / FIELDS + 1
  local slot, entry = tonumber(string.sub(ARGV[at + 1], 1, 1)) + 1, string.sub(ARGV[at + 1], 3)
  answer[note] = '0'
  if is_known then
    local held = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, lease)
    -- rule:5 a note is kept only of a job that the lease holds
    if not held.err and #held == 1 then
      redis.call('SADD', NOTED, ARGV[at])
      redis.call('HSET', KEYS[OWN_KEYS + note], ARGV[at + 2], ARGV[at + 3])
      answer[note] = '1'
    end
  end
end
return table.concat(answer)
