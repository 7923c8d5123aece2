#!lua flags=allow-oom
-- rule:6 a note is not refused at maxmemory
-- Keeps notes of jobs that the lease still holds.
-- KEYS: the queue's; then for each note the key of the job's notes.
-- ARGV: 2 lease id; then for each note: id, place ('<p>:<entry>'), name, value.
-- Result: one character for each note: '1' kept, '0' the lease does not hold the job.
local lease, FIELDS, FIRST = ARGV[2], 4, 3
local is_known = redis.call('ZSCORE', WORKERS, lease)
local answer = {}
for at = FIRST, #ARGV, FIELDS do
  local note = (at - FIRST) / FIELDS + 1
  local slot, entry = tonumber(string.sub(ARGV[at + 1], 1, 1)) + 1, string.sub(ARGV[at + 1], 3)
  answer[note] = '0'
  if is_known then
    local held = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, lease)
    -- rule:5 a note is kept only of a job that the lease holds
    if not held.err and #held == 1 then
      local id, key, name, value = ARGV[at], KEYS[OWN_KEYS + note], ARGV[at + 2], ARGV[at + 3]
      -- First: notes of which nobody knows would stay when their job ends.
      redis.call('SADD', NOTED, id)
      if type(redis.pcall('HSET', key, name, value)) == 'table' then
        -- A foreign writer has put something else there. It costs no other note of this call.
        redis.call('UNLINK', key)
        redis.call('HSET', key, name, value)
      end
      -- From now on this is the job's progress, and not what an older release has kept.
      if name == 'progress' then redis.pcall('HDEL', PROGRESS, id) end
      answer[note] = '1'
    end
  end
end
return table.concat(answer)
