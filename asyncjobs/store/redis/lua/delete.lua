#!lua flags=allow-oom
-- Deletes jobs that wait, as if they had never been enqueued: nothing is left of them, and their
-- ids may be used again at once. One that runs is left alone: its entry would stay pending for
-- ever.
-- KEYS: the queue's.
-- ARGV: 2 and on, for each job: id, and which stay was chosen, or ''.
-- Result: for each job 'done', 'gone', 'running' or 'moved'; then 'posted' when something was noted
--   for other queues.
-- Everything is checked before the first job is removed, as in cancel.lua.
check_waiting()
redis.call('ZCARD', CANCEL_HELD)
redis.call('SISMEMBER', NOTED, '')
for _, key in ipairs({CANCEL, PROGRESS}) do redis.call('HEXISTS', key, '') end
local locks = redis.call('EXISTS', UNIQUE_OF) == 1 and open_locks(store_now())
if locks then locks.check() end
local barriers = redis.call('EXISTS', ENDS) == 1 and open_barriers(store_now())
if barriers then barriers.check() end

local answer, removed, ended = {}, {}, {}
for position = 2, #ARGV, 2 do
  local id, seen = ARGV[position], ARGV[position + 1]
  local verdict = obstacle(id, redis.call('HGET', INDEX, id), seen)
  if not verdict then
    take_out(id)
    mark(id, nil)
    removed[#removed + 1] = id
    ended[#ended + 1] = id
    ended[#ended + 1] = END['cancelled']
    -- Who waits for its result looks at the store, and finds nothing.
    announce(id, '')
    verdict = 'done'
  end
  answer[#answer + 1] = verdict
end
-- rule:21 a delete frees the keys of jobs
if locks then locks.ended(removed) end
if locks and (locks.is_ready or locks.is_earlier) then wake() end
drop_gates(removed)
-- rule:36 a job that is deleted counts as cancelled
if barriers then
  barriers.ended(ended, false)
  -- What it lets go is left to an exchange.
  if barriers.is_left then wake() end
end
drop_notes(removed)
in_chunks('HDEL', PROGRESS, removed)
-- rule:37 who deletes hears that something waits for other queues
if POSTED.any then answer[#answer + 1] = 'posted' end
return answer
