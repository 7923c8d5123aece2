#!lua flags=allow-oom
-- The dead letters of some jobs.
-- KEYS: the queue's.
-- ARGV: 2 bytes of an envelope, or '' for all; then job ids.
-- Result: for each job {died ms, size, letter}, empty without a letter.
local cut, answer = tonumber(ARGV[2]), {}
for position = 3, #ARGV do
  local died = redis.call('ZSCORE', DEAD, ARGV[position])
  answer[position - 2] = {}
  if died then
    local letter = redis.call('HGET', DEAD_DATA, ARGV[position]) or ''
    local size = math.max(#letter - 1, 0)
    if cut then
      local line = string.find(letter, '\n', 2, true) or 1
      letter = string.sub(letter, 1, line + cut)
    end
    answer[position - 2] = {time_of(died), size, letter}
  end
end
return answer
