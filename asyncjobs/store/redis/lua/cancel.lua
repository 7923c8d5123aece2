#!lua flags=allow-oom
-- rule:6 a cancel is not refused at maxmemory
-- Cancels jobs. Ready and scheduled ones are removed. Running ones are marked for their worker,
-- and published on the control channel, for a worker without a free slot asks for nothing by
-- itself. The entry of a running job is never deleted here: it would stay pending for ever.
-- KEYS: the queue's; then the result key of each job.
-- ARGV: 2 id_ttl_ms; 3 result_ttl_ms; 4 outcome; 5 how many jobs the history keeps; then job ids.
-- Result: for each job 'cancelled', 'requested', 'finished' or 'unknown'; then 'posted' when something
--   was noted for other queues.
local now, ids = store_now(), {}
for position = 6, #ARGV do ids[position - 5] = ARGV[position] end
local states = recall(now, ids)
check_cancelled()

local answer, removed_ids, stored, result_keys = {}, {}, {}, {}
for position = 1, #ids do
  local id = ids[position]
  local removed, holder = take_out(id)
  if holder then
    -- rule:8 a running job is marked
    mark(id, holder)
    -- rule:8 a cancel is told on the control channel
    redis.call('PUBLISH', string.sub(WAKE, 1, -5) .. 'control', holder .. ' ' .. id)
    answer[position] = 'requested'
  elseif not removed then
    local known = states[id] or redis.call('HEXISTS', DEAD_DATA, id) == 1
    answer[position] = known and 'finished' or 'unknown'
  end
  if removed then
    answer[position] = 'cancelled'
    -- The list may name it again.
    states[id] = END['cancelled']
    removed_ids[#removed_ids + 1] = id
    stored[#stored + 1] = removed
    result_keys[#result_keys + 1] = KEYS[OWN_KEYS + position]
  end
end
end_cancelled(removed_ids, stored, result_keys, now, ARGV)
-- rule:37 who cancels hears that something waits for other queues
if POSTED.any then answer[#answer + 1] = 'posted' end
return answer
