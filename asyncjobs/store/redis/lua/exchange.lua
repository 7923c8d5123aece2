#!lua flags=allow-oom
-- rule:6 an exchange is not refused at maxmemory
-- Settles finished jobs, promotes due ones and takes new ones for one lease.
-- KEYS: the queue's; then the result key of each settlement that carries an outcome,
--   in the order of the settlements; then the result key of each job that a success stores
--   under an id that was given.
-- ARGV: 2 lease id; 3 sequence; 4 id_ttl_ms; the demand: 5 slots, 6 guard, 7 guard from,
--   8 room for suspects, a number for each number of crashes, the last one for all above;
--   9 number of settlements; 10 how many jobs the history keeps; 11 what it is told of these, see
--   history.lua, or ''; then the settlements, each led by an operation and a priority in one word:
--     f<p><code>   entry id                        finished
--     o<p><code>   entry id ttl_ms outcome         finished, outcome kept
--     d<p>         entry id ttl_ms outcome letter  dead; no outcome kept when ttl_ms is 0
--     r<p>         entry id delay_ms envelope      again later; 'w' behind it: or with its event
--     b<p>         entry id                        given back
--   The entry of a job with a gate stands in a stream of its own, whatever its priority. 'c' behind
--   an 'r': nobody passes the keys of its gate until then.
--   then the jobs that successes store, as in effects.lua.
-- Result: {'lost', now} | {'stale', last sequence} | {'ok', now, next due or -1, next lease
--   end or -1, 1 when ready jobs are left and 2 when the queue is paused, 4 more when it has noted
--   something for other queues, places of settlements without effect, places of those for a later
--   attempt that were cancelled instead, ids of held jobs to cancel, {{priority, entries, crashes
--   or nothing}, ...}, those of jobs with a gate {4, entries, crashes or nothing, priorities, since
--   when they were ready}, number of jobs promoted, the fewest crashes of a suspect that is left or
--   0}.
local lease, sequence = ARGV[2], tonumber(ARGV[3])
local id_ttl, slots, guard = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local guard_from, settlements = tonumber(ARGV[7]), tonumber(ARGV[9])
local WIDTH = {f = 3, o = 5, d = 6, r = 5, b = 3}
local FIRST, STEP, MOST_MARKS = 12, 32, 100

local is_known, lease_end = look_at_leases(lease)
-- rule:2 a lease whose entry is gone may not settle or take
if not is_known then return {'lost', store_now()} end
local last = read_sequence(lease)
-- rule:4 an exchange at or below the last one is refused
if sequence <= last then return {'stale', last} end

-- What each word says. Each is read once, for there are few words and many settlements.
local words = setmetatable({}, {__index = function(known, word)
  local operation = string.sub(word, 1, 1)
  local slot = (tonumber(string.sub(word, 2, 2)) or -1) + 1
  if not WIDTH[operation] or slot > 4 or not READY[slot] then return nil end
  known[word] = {operation, slot, string.sub(word, 3, 3), WIDTH[operation]}
  return known[word]
end})

-- Everything is checked before the first write, for an error later does not roll back.
local at = FIRST
for _ = 1, settlements do
  local word = words[ARGV[at] or '']
  if not word then return redis.error_reply('ERR bad settlement') end
  local width = word[4]
  -- rule:5 settlements are checked before the first write
  if width > 3 and not tonumber(ARGV[at + 3]) then return redis.error_reply('ERR bad number') end
  at = at + width
end
-- The jobs that successes store. An exchange without any pays nothing for them.
local first_effect, effects, now = at, nil, store_now()
local has_effects = first_effect <= #ARGV
if has_effects then
  local failed
  effects, failed = new_effects(first_effect, now)
  if failed then return failed end
end
-- Each key that will keep a job which is acknowledged here is read first. If its type were wrong,
-- the write would fail behind the acknowledgement, and the job would be lost.
local some_slot, has_more_slots = nil, false
for _, word in pairs(words) do
  if word[1] == 'r' then
    -- rule:5 a job that shall run again is acknowledged only where its time can be kept
    redis.call('ZCARD', SCHEDULED)
    -- rule:5 a job that shall run again is acknowledged only where its envelope can be kept
    redis.call('HEXISTS', SCHEDULED_DATA, '')
  elseif word[1] == 'd' then
    -- rule:5 a dead job is acknowledged only where its time can be kept
    redis.call('ZCARD', DEAD)
    -- rule:5 a dead job is acknowledged only where the letter itself can be kept
    redis.call('HEXISTS', DEAD_DATA, '')
  elseif word[1] == 'b' then
    -- A job that is given back comes after others are acknowledged. What fails there would
    -- lose those that shall run again.
    -- rule:5 a job is given back only where the others of its exchange are not lost by it
    redis.call('SISMEMBER', RETURNED, '')
    redis.call('HEXISTS', CRASHES, '')
  end
  has_more_slots = has_more_slots or some_slot ~= nil and some_slot ~= word[2]
  some_slot = word[2]
end
if has_more_slots then
  for _, word in pairs(words) do
    -- rule:5 nothing is acknowledged where entries of another priority cannot be
    redis.call('XLEN', READY[word[2]])
  end
end

if has_effects then effects.look_up() end
-- Most of the time none of these keys exists, and one question is enough.
local rare = redis.call('EXISTS', CANCEL, CRASHES, AWAITED, NOTED, RETURNED, LARGEST,
  PROGRESS, PAUSED, UNIQUE_OF, GATED, ENDS) > 0
if rare then STEP = portion(STEP) end
local marked = rare and redis.call('EXISTS', CANCEL) == 1
-- The marks of other leases cost this one no more than these two questions.
local has_marks = marked and #marks_of(lease, 1) > 0
if has_marks then redis.call('HEXISTS', CANCEL, '') end
local noted = rare and redis.call('EXISTS', NOTED) == 1
if noted then redis.call('SISMEMBER', NOTED, '') end
local has_old_progress = rare and redis.call('EXISTS', PROGRESS) == 1
if has_old_progress then redis.call('HEXISTS', PROGRESS, '') end
local crashed = rare and redis.call('EXISTS', CRASHES) == 1
if crashed then redis.call('HEXISTS', CRASHES, '') end
local awaited = rare and redis.call('EXISTS', AWAITED) == 1
local locks = rare and redis.call('EXISTS', UNIQUE_OF) == 1 and open_locks(now)
-- Jobs that are stored here may be the first ones with keys, and may be taken here.
if has_effects and effects.placing and effects.placing.is_unique then
  locks = effects.placing.locks
end
if locks then locks.check() end
if not rare then
  -- Unless jobs that are stored here are the first ones with a gate.
  GATES = GATES or false
elseif gates_here(now) then
  GATES.check()
end
local barriers = rare and redis.call('EXISTS', ENDS) == 1 and open_barriers(now)
if has_effects and effects.placing and effects.placing.barriers then
  barriers = effects.placing.barriers
end
if barriers then barriers.check() end
local is_paused, paused = false, nil
if rare and redis.call('EXISTS', PAUSED) == 1 then
  check_returns()
  is_paused, paused = read_paused()
end
redis.call('HSET', SEQUENCE, lease, sequence)

-- The parts below have locals of their own: a chunk may have 200, and those of all policies are in
-- front of it.
local not_yours, cancelled = {}, {}
do
PART['exchange_settle']
end

if barriers then
  -- A ready one is taken below, or signals there.
  barriers.let_go(math.max(MOST_LET_GO, slots), id_ttl, tonumber(ARGV[10]))
  -- rule:1 a job behind a barrier that is let go, and due before all others, signals
  if barriers.is_earlier() then wake() end
  STEP = portion(STEP)
end

local due_ms, promoted = next_due(), 0
if due_ms and due_ms <= now then
  local failed, refused
  promoted, failed, refused = promote(now, math.max(100, slots))
  -- They are in their places no more, so an error of another job must not keep them from their ends.
  if #refused > 0 then end_refused(refused, now, ARGV[4], ARGV[10]) end
  if failed then return failed end
  -- rule:10 the next due time is that after a promotion
  due_ms = next_due()
end
if GATES then due_ms = GATES.open(due_ms) end

-- What has ended is settled, and what is due becomes ready. Only the handing out stops.
-- rule:18 a paused queue hands out nothing
if is_paused then slots, guard = 0, 0 end

PART['exchange_take']

-- What is left for others, or for the next exchange.
local is_left, fewest, left_ready = false, 0, 0
-- rule:18 a paused queue signals nobody
if is_paused then waiting, left_ready = {}, 2 end
for slot, numbers in pairs(waiting) do
  for _, crashes in ipairs(numbers) do
    if crashes == 0 then
      is_left = is_left or waits_at(tostring(slot))
    elseif (fewest == 0 or crashes < fewest) and waits_at(slot .. ':' .. crashes) then
      fewest = crashes
    end
  end
end
if not is_paused and (wanted == 0 or bytes >= MAX_BYTES) then
  -- Without room suspects do not count: each exchange would signal another worker, and that one
  -- could take none of them either.
  is_left = is_left or fewest > 0 and room_for(fewest) > 0
  for slot = 1, 4 do is_left = is_left or not drained[slot] and has_new(slot) end
  -- rule:1 due jobs that a promotion leaves signal the next worker
  is_left = is_left or due_ms ~= nil and due_ms <= now
  if is_left then left_ready = 1 end
end
-- rule:36 an exchange that leaves jobs behind a fallen barrier signals for them
if barriers and barriers.is_left and not is_paused then left_ready = 1 end
if GATES then
  -- What was handed out may have put lanes off.
  due_ms = GATES.next_due(next_due())
  if not is_paused then
    local class = GATES.first_in_line(0)
    -- rule:34 lanes that are left in line signal, others signal nobody
    if class and class < 4 then left_ready = 1 end
    class = GATES.first_in_line(4)
    if class and (fewest == 0 or class - 3 < fewest) then fewest = class - 3 end
    if class and wanted == 0 and room_for(class - 3) > 0 then left_ready = 1 end
  end
  GATES.tidy()
end
-- One worker does not take all suspects. One that has taken some signals another worker.
-- rule:1 an exchange that leaves ready work behind passes the token on
-- rule:7 who takes some suspects signals another worker
if left_ready == 1 or given > 0 and fewest > 0 then wake() end

-- At most some of the marks are returned, for heartbeats return all. Otherwise many jobs that take
-- their time to stop would make each exchange long.
if has_marks then
  local told = {}
  for position = 1, #cancels do told[cancels[position]] = true end
  -- rule:11 an exchange returns a bounded number of marks
  for _, id in ipairs(marks_of(lease, MOST_MARKS)) do
    if not told[id] then cancels[#cancels + 1] = id end
  end
end
-- rule:37 the worker hears at once that something waits for other queues
if POSTED.any then left_ready = left_ready + 4 end
-- rule:8 an exchange returns the marks
return {'ok', now, due_ms or -1, lease_end, left_ready, not_yours, cancelled, cancels,
  taken, promoted, fewest}
