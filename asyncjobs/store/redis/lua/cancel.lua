#!lua flags=allow-oom
-- rule:6 a cancel is not refused at maxmemory
-- Cancels jobs. Ready and scheduled ones are removed. Running ones are marked for their worker,
-- and published on the control channel, for a worker without a free slot asks for nothing by
-- itself. The entry of a running job is never deleted here: it would stay pending for ever.
-- KEYS: the queue's; then the result key of each job.
-- ARGV: 2 id_ttl_ms; 3 result_ttl_ms; 4 outcome; 5 how many jobs the history keeps; then job ids.
-- Result: for each job 'cancelled', 'requested', 'finished' or 'unknown'.
local id_ttl, result_ttl, outcome, now = tonumber(ARGV[2]), ARGV[3], ARGV[4], store_now()
local ids = {}
for position = 6, #ARGV do ids[position - 5] = ARGV[position] end
-- Everything is checked before the first job is removed: after an error nobody would be told of
-- its end, and its id would be neither there nor known.
local states = recall(now, ids)
check_waiting()
redis.call('ZCARD', CANCEL_HELD)
redis.call('SISMEMBER', NOTED, '')
for _, key in ipairs({CANCEL, DEAD_DATA, PROGRESS}) do
  -- rule:8 a cancel removes nothing where it cannot do all that belongs to it
  redis.call('HEXISTS', key, '')
end

local answer, finished, removed_ids, waited = {}, {}, {}, {}
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
    mark(id, nil)
    -- The list may name it again.
    states[id] = END['cancelled']
    removed_ids[#removed_ids + 1] = id
    waited[#waited + 1] = id
    waited[#waited + 1] = removed
    finished[#finished + 1] = id
    finished[#finished + 1] = END['cancelled']
    local kept = result_ttl ~= '0'
    if kept then redis.call('SET', KEYS[OWN_KEYS + position], outcome, 'PX', result_ttl) end
    announce(id, kept and outcome or '')
  end
end
drop_notes(removed_ids)
-- Nor of the progress that an older release has kept.
in_chunks('HDEL', PROGRESS, removed_ids)
remember(now, id_ttl, finished)
tally(now, END['cancelled'], #finished / 2)
-- rule:19 a job that was cancelled while it waited is in the history
record_waiting(now, tonumber(ARGV[5]), waited)
return answer
