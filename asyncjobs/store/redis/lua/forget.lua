#!lua flags=allow-oom
-- Forgets a queue in which nothing is left: what it has kept of its past goes, and so does its
-- name in the list of all queues. Results and answers to batches stay until they expire.
-- A lease that is over counts for nothing here: it holds no job, or that would be there. Its
-- worker, if it still lives, finds its entry gone and enters anew, as after a reclaim.
-- KEYS: the queue's; then the list of all queues.
-- ARGV: 2 for how many ms no worker may have been heard of, 0 when that does not matter;
--   3 the queue's name.
-- Result: {jobs ready, running, scheduled, dead, live leases, jobs that the index knows, 1 when
--   somebody waits for a result, for how many ms yet its past is needed}. All of them 0: it is
--   forgotten.
local now, idle = store_now(), tonumber(ARGV[2])
local ready, running = count_entries()
local wait_ms = 0
-- Longer than clients keep to themselves that they have said the name of a queue, by far.
local QUIET_MS = 240000

-- An id that is remembered must not be used again before its time.
for slot = 1, 3 do
  local field = redis.call('HGET', KNOWN[slot], '')
  wait_ms = math.max(wait_ms, known_until(KNOWN[slot], field, now) - now)
end
-- Who has enqueued a job says the queue's name again a minute later at the earliest. So a queue
-- stays listed for longer than that after each job, or the next one would be in no list.
local counters = redis.call('HGETALL', STATS)
for position = 1, #counters, 2 do
  local begin = tonumber(string.match(counters[position], '^%d+') or '0') * 60000
  -- What lies ahead was written before the clock went back.
  -- rule:9 a queue is kept for longer than clients do not say its name
  if begin <= now then wait_ms = math.max(wait_ms, begin + 60000 + QUIET_MS - now) end
end
local seen = tonumber(redis.call('HGET', UPKEEP, 'seen') or '')
if seen and idle > 0 then wait_ms = math.max(wait_ms, math.min(seen, now) + idle - now) end

local from = '(' .. string.format('%.0f', now)
local left = {ready[1] + ready[2] + ready[3] + ready[4], running, redis.call('ZCARD', SCHEDULED),
  redis.call('ZCARD', DEAD), redis.call('ZCOUNT', WORKERS, from, '+inf'),
  redis.call('HLEN', INDEX), redis.call('EXISTS', AWAITED), math.ceil(wait_ms)}
for _, number in ipairs(left) do
  -- rule:9 a queue with something left is not forgotten
  if number > 0 then return left end
end
drop_notes(redis.call('SMEMBERS', NOTED))
redis.call('UNLINK', READY[1], READY[2], READY[3], READY[4], INDEX, SCHEDULED, SCHEDULED_DATA,
  WORKERS, WORKERS_INFO, SEQUENCE, LEAVING, WAKE, CANCEL, CANCEL_HELD, RETURNED, CRASHES, DEAD,
  DEAD_DATA, DEAD_BYTES, PROGRESS, UPKEEP, KNOWN[1], KNOWN[2], KNOWN[3], STATS, LARGEST)
redis.call('SREM', KEYS[OWN_KEYS + 1], ARGV[3])
return left
