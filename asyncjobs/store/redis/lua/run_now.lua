#!lua flags=allow-oom
-- Makes scheduled jobs ready before their time.
-- KEYS: the queue's.
-- ARGV: 2 and on, for each job: id, and which stay was chosen, or ''.
-- Result: for each job 'done', 'gone', 'running', 'moved', 'ready' when it waits for no time, or
--   'held' when it waits for the end of another one or for room at a limit.
check_waiting()
local answer, signals, failed = {}, false, nil
for position = 2, #ARGV, 2 do
  local id, seen = ARGV[position], ARGV[position + 1]
  local place = redis.call('HGET', INDEX, id)
  local verdict = obstacle(id, place, seen)
  if not verdict and (place == 'h' or place == 'b') then verdict = 'held' end
  if not verdict and place == 'g' and gates_anyway(store_now()).held_by(id) then verdict = 'held' end
  if not verdict and place ~= 's' then verdict = 'ready' end
  if not verdict then
    local stored = redis.call('HGET', SCHEDULED_DATA, id) or ''
    local there = make_ready(priority_of(stored), id, string.sub(stored, 2), store_now())
    -- A job that cannot be made ready stays scheduled.
    if type(there) == 'table' then
      failed = there
      break
    end
    redis.call('ZREM', SCHEDULED, id)
    redis.call('HDEL', SCHEDULED_DATA, id)
    redis.call('HSET', INDEX, id, there)
    signals, verdict = true, 'done'
  end
  answer[#answer + 1] = verdict
end
if signals then wake() end
return failed or answer
