#!lua flags=allow-oom
-- The barriers that jobs are held behind.
-- KEYS: the queue's.
-- ARGV: 2 and on: ids of jobs.
-- Result: for each {} when it is behind none, or {the barrier, how many arrivals it waits for, or -1
--   when it has fallen}.
local answer = {}
for position = 2, #ARGV do
  local barrier = behind_of(ARGV[position])
  answer[position - 1] = {}
  if barrier then
    local standing = redis.call('HGET', string.sub(WAKE, 1, -5) .. 'barriers', barrier)
    local left = string.match(standing or '', '^(%d+) ')
    answer[position - 1] = {barrier, tonumber(left or '-1')}
  end
end
return answer
