#!lua flags=allow-oom
-- Forgets a queue in which nothing is left. Its past is dropped, and its name is taken off the list
-- of all queues. Results and answers to batches stay until they expire.
-- A lease that is over does not count. It holds no job, for a job would keep the queue. If its
-- worker still lives it finds its entry gone and enters again, as after a reclaim.
-- KEYS: the queue's; then the list of all queues.
-- ARGV: 2 for how many ms no worker may have been heard of, 0 when that does not matter;
--   3 the queue's name.
-- Result: {jobs ready, running, scheduled, dead, live leases, jobs that the index knows, 1 when
--   somebody waits for a result, for how many ms yet its past is needed, what is paused, how many
--   schedules feed it, flows that are kept, barriers that stand, entries of its outbox}. All of them
--   0: it is forgotten.
local now, idle = store_now(), tonumber(ARGV[2])
local ready, running = count_entries()
local wait_ms = 0
-- Much longer than clients wait before they send the name of a queue again.
local QUIET_MS = 240000

-- Ids that are remembered must not be used again before their time.
for slot = 1, 3 do
  local field = redis.call('HGET', KNOWN[slot], '')
  wait_ms = math.max(wait_ms, known_until(KNOWN[slot], field, now) - now)
end
-- A client that has enqueued a job sends the name of the queue again a minute later at the
-- earliest. So the queue stays listed for longer than that, or the next job would be in a queue
-- that no list names.
local counters = redis.call('HGETALL', STATS)
for position = 1, #counters, 2 do
  local begin = tonumber(string.match(counters[position], '^%d+') or '0') * 60000
  -- A minute that lies ahead was counted before the clock was set back.
  -- rule:9 a queue is kept for longer than clients do not say its name
  if begin <= now then wait_ms = math.max(wait_ms, begin + 60000 + QUIET_MS - now) end
end
-- A window is kept until it is over, or a second job would begin in it.
local last = redis.call('ZRANGE', UNIQUE_WINDOWS, 0, 0, 'REV', 'WITHSCORES')
-- rule:21 a queue is kept for as long as one of its windows
if last[2] then wait_ms = math.max(wait_ms, tonumber(last[2]) - now) end
local seen = tonumber(redis.call('HGET', UPKEEP, 'seen') or '')
if seen and idle > 0 then wait_ms = math.max(wait_ms, math.min(seen, now) + idle - now) end

local from, base = '(' .. string.format('%.0f', now), string.sub(WAKE, 1, -5)
local left = {ready[1] + ready[2] + ready[3] + ready[4], running, redis.call('ZCARD', SCHEDULED),
  redis.call('ZCARD', DEAD), redis.call('ZCOUNT', WORKERS, from, '+inf'),
  redis.call('HLEN', INDEX), redis.call('EXISTS', AWAITED), math.ceil(wait_ms),
  redis.call('HLEN', PAUSED),
  redis.call('ZCARD', CRON), redis.call('ZCARD', base .. 'flows:over') + redis.call('ZCARD',
  base .. 'flows:running'), redis.call('HLEN', base .. 'barriers'),
  redis.call('XLEN', outbox_key('outbox'))}
for _, number in ipairs(left) do
  -- rule:9 a queue with something left is not forgotten
  if number > 0 then return left end
end
drop_notes(redis.call('SMEMBERS', NOTED))
local with_notes = redis.call('HGETALL', DEAD_NOTED)
for position = 1, #with_notes, 2 do
  redis.call('UNLINK', string.sub(WAKE, 1, -5) .. 'dead:notes:' .. with_notes[position])
end
redis.call('UNLINK', READY[1], READY[2], READY[3], READY[4], INDEX, SCHEDULED, SCHEDULED_DATA,
  WORKERS, WORKERS_INFO, SEQUENCE, LEAVING, WAKE, CANCEL, CANCEL_HELD, RETURNED, CRASHES, DEAD,
  DEAD_DATA, DEAD_BYTES, DEAD_NOTED, PROGRESS, UPKEEP, KNOWN[1], KNOWN[2], KNOWN[3], STATS, LARGEST,
  HISTORY, HISTORY_JOBS, UNIQUE, UNIQUE_OF, UNIQUE_NEXT, UNIQUE_HELD,
  UNIQUE_SINCE, UNIQUE_WINDOWS, CRON_NEXT, WAITS, EVENTS, EVENTS_OF, GATED, ENDS,
  barriers_key('of'), barriers_key('data'), barriers_key('since'), barriers_key('fallen'),
  base .. 'flows:names')
for _, name in ipairs({'lanes', 'turns', 'barred', 'later', 'standing', 'lanes:of', 'permits', 'rates',
  'closed', 'limits', 'holders', 'holders:of', 'gated:of', 'gated:own', 'gated:data',
  'gated:since'}) do
  redis.call('UNLINK', base .. name)
end
-- Others may relay something to this queue that it has got already. And the next entry of its own
-- outbox must not have the id of one that they know.
-- rule:37 a queue that is forgotten knows for a day what it has got
for _, name in ipairs({'outbox', 'inbox'}) do redis.call('PEXPIRE', outbox_key(name), 86400000) end
redis.call('UNLINK', outbox_key('outbox:state'), outbox_key('outbox:old'))
drop_figures(now)
redis.call('SREM', KEYS[OWN_KEYS + 1], ARGV[3])
return left
