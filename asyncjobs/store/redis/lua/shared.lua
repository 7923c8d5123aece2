-- The names of a queue's keys, and what several scripts do. ended.lua and effects.lua stand behind
-- it. Each script gets in front of it only the statements that it uses, for a key that is named and
-- a closure that is made cost the server as much as a small command. QUEUE['name'] becomes the
-- KEYS[n] of the key that ends so. END['state'] becomes the code of a final state, as in
-- model/ends.py.
-- KEYS: those of the queue that a script uses, in the order of their first use here; scripts
--   add theirs behind, from OWN_KEYS + 1.
-- ARGV: 1 = the time in ms when a test pins the clock, else ''.
-- Result: none of its own.
-- The streams of the four priorities. In the fifth stand those jobs with a gate that leases hold,
-- see gates.lua: nobody reads it, and its jobs keep their own priorities.
local READY = {QUEUE['ready:0'], QUEUE['ready:1'], QUEUE['ready:2'], QUEUE['ready:3'],
  QUEUE['gated']}
local INDEX = QUEUE['index']
local SCHEDULED = QUEUE['scheduled']
local SCHEDULED_DATA = QUEUE['scheduled:data']
local WORKERS = QUEUE['workers']
local WORKERS_INFO = QUEUE['workers:info']
local SEQUENCE = QUEUE['sequence']
local LEAVING = QUEUE['leaving']
local WAKE = QUEUE['wake']
local CANCEL = QUEUE['cancel']
local CANCEL_HELD = QUEUE['cancel:held']
local RETURNED = QUEUE['returned']
local CRASHES = QUEUE['crashes']
local DEAD = QUEUE['dead']
local DEAD_DATA = QUEUE['dead:data']
local DEAD_BYTES = QUEUE['dead:bytes']
local DEAD_NOTED = QUEUE['dead:noted']
local PROGRESS = QUEUE['progress']
local NOTED = QUEUE['noted']
local UPKEEP = QUEUE['upkeep']
local KNOWN = {QUEUE['known:0'], QUEUE['known:1'], QUEUE['known:2']}
local AWAITED = QUEUE['awaited']
local STATS = QUEUE['stats']
local LARGEST = QUEUE['largest']
local UNIQUE = QUEUE['unique']
local UNIQUE_NEXT = QUEUE['unique:next']
local UNIQUE_HELD = QUEUE['unique:held']
local UNIQUE_SINCE = QUEUE['unique:since']
local UNIQUE_WINDOWS = QUEUE['unique:windows']
local WAITS = QUEUE['waits']
local EVENTS = QUEUE['events']
local EVENTS_OF = QUEUE['events:of']
local OWN_KEYS = #QUEUE
local GROUP, RETURNED_CONSUMER = 'workers', 'returned'
-- Suspects wait apart, by the crashes that they have been through. Those with this many or more
-- wait together, for they all run alone.
local MOST_CRASHES = 16
-- Behind a lease's id: the number of its last offer.
local PARKED = ':parked'
-- Behind a lease's id: its grace in ms.
local GRACE = ':grace'
-- Behind a lease's id: its worker was told to end, so its death will be no crash.
local LEAVES = ':leaves'
-- Behind a lease's id: what an operator has ordered, with its number in front.
local ORDERS = {':state', ':weights'}
-- A clock that was set back by less does no harm that anybody would notice.
local STEP_MS = 1000
-- unpack() fails near 8,000 values; every variadic call stays far below.
-- rule:11 variadic calls stay far below what unpack can do
local CHUNK = 500
-- Envelopes above this size are noted, for 32 of them are too much to be read in one go.
local LARGE, PORTION_BYTES = 32768, 1048576
-- After so many bytes of envelopes a script promotes and hands out no more.
-- rule:11 an exchange stops after 4 MiB
local MAX_BYTES = 4194304

local function store_now()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- When a job died. A foreign writer may have put any number there. The reply needs a whole number
-- that it can hold.
local function time_of(score)
  return math.floor(math.max(math.min(tonumber(score), 9e15), -9e15))
end

-- Signals a waiting worker. One token at the most: a second one would wake a worker for nothing.
local function wake()
  -- rule:1 one token at the most
  if redis.call('LLEN', WAKE) == 0 then redis.call('RPUSH', WAKE, '1') end
end

-- Tells those who wait for a result how the job has ended. '' makes them look at the store. It is
-- only called in an awaited queue.
local function announce(id, outcome)
  redis.call('PUBLISH', string.sub(WAKE, 1, -5) .. 'result:' .. id, outcome)
end

local function create_group(stream)
  -- rule:10 a group is made again from the start of its stream
  local made = redis.pcall('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
  if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
    error(made.err)
  end
end

-- Calls `command key ...` with `values` in chunks.
local function in_chunks(command, key, values)
  for first = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

-- Adds to a counter of the present minute: 'e' enqueued, 'r' rescheduled, or the code of
-- a final state. One hash holds the last few minutes, in fields '<minute>:<code>'.
local function tally(now, code, number)
  if number == 0 then return end
  local minute = math.floor(now / 60000)
  local counted = redis.pcall('HINCRBY', STATS, minute .. ':' .. code, number)
  if type(counted) == 'table' then
    -- A count that a foreign writer has spoiled begins anew: what is counted has happened, and
    -- an error here would say that it has not.
    redis.call('UNLINK', STATS)
    counted = redis.call('HINCRBY', STATS, minute .. ':' .. code, number)
  end
  if counted > number then return end
  -- It is the first of its minute. A time from the id of an entry stays ahead after the clock was
  -- set back, for these ids only rise.
  local present = math.floor(store_now() / 60000)
  if minute > present then
    redis.call('HDEL', STATS, minute .. ':' .. code)
    minute = present
    if redis.call('HINCRBY', STATS, minute .. ':' .. code, number) > number then return end
  end
  -- Old counters go, so that the hash stays small.
  local stored = redis.call('HGETALL', STATS)
  for position = 1, #stored, 2 do
    local age = minute - tonumber(string.match(stored[position], '^%d+') or '-1')
    if age < 0 or age > 4 then redis.call('HDEL', STATS, stored[position]) end
  end
  redis.call('PEXPIRE', STATS, 600000)
end

-- No command tells how large the entries of a stream are before they are read. So whatever makes a
-- large one ready notes its size and its time. Prune drops the note when no entry is as old: on a
-- queue that is never empty one large job would otherwise slow down all others for ever.
local function largest_noted()
  local noted = redis.pcall('GET', LARGEST)
  -- A foreign writer may have put something else there.
  local size, last_ms = string.match(type(noted) == 'string' and noted or '', '^(%d+) (%d+)$')
  return tonumber(size or '0'), tonumber(last_ms or '0')
end

local function note_large(size, entry)
  if size <= LARGE then return end
  local largest, last_ms = largest_noted()
  local ms = tonumber(string.match(entry, '^%d+'))
  if size <= largest and ms <= last_ms then return end
  redis.call('SET', LARGEST,
    string.format('%.0f %.0f', math.max(size, largest), math.max(ms, last_ms)))
end

-- How many entries may be read in one go: `most`, or as many as fit where large ones may be.
local function portion(most)
  local largest = largest_noted()
  if largest <= LARGE then return most end
  -- rule:11 an exchange takes in steps
  return math.max(math.min(most, math.floor(PORTION_BYTES / largest)), 1)
end

-- Adds an entry; its place. Or the error, and then nothing is stored: the caller must leave the job
-- where it is.
local function append_ready(priority, id, envelope)
  local entry = redis.pcall('XADD', READY[priority + 1], '*', id, envelope)
  if type(entry) == 'table' then return entry end
  note_large(#envelope, entry)
  return priority .. ':' .. entry
end

-- The priority in front of a stored envelope or letter. A foreign writer may have left it out.
local function priority_of(stored)
  local priority = tonumber(string.sub(stored, 1, 1))
  -- rule:15 a scheduled job without a priority has one
  return priority and priority < 4 and READY[priority + 1] and priority or 2
end

-- Marks a job that somebody wants to stop, with the lease that holds it: '' while none does, nil to
-- drop the mark. Each lease must find its own marks without looking through all others. So they
-- stand in a sorted set, too, as '<lease><0><id>', in the order of their bytes.
local function mark(id, holder)
  local before = redis.call('HGET', CANCEL, id)
  if before and before ~= '' then redis.call('ZREM', CANCEL_HELD, before .. '\0' .. id) end
  if not holder then
    if before then redis.call('HDEL', CANCEL, id) end
    return
  end
  redis.call('HSET', CANCEL, id, holder)
  if holder ~= '' then redis.call('ZADD', CANCEL_HELD, 0, holder .. '\0' .. id) end
end

-- The ids of jobs that this lease holds and somebody wants to stop, at most `most`; -1 for all.
local function marks_of(lease, most)
  local from, to = '[' .. lease .. '\0', '(' .. lease .. '\1'
  local ids = redis.call('ZRANGE', CANCEL_HELD, from, to, 'BYLEX', 'LIMIT', 0, most)
  for position = 1, #ids do ids[position] = string.sub(ids[position], #lease + 2) end
  return ids
end

-- Whether the lease `own` is known, and the earliest end of another one, or -1.
local function look_at_leases(own)
  -- The first two nearly always answer both.
  local first = redis.call('ZRANGE', WORKERS, 0, 1, 'WITHSCORES')
  local is_known = first[1] == own or first[3] == own
  -- rule:2 a lease that ends after others is looked for
  if not is_known then is_known = redis.call('ZSCORE', WORKERS, own) ~= false end
  local other = first[2]
  if first[1] == own then other = first[4] end
  return is_known, tonumber(other or '-1')
end

-- When the first of the jobs that wait for their time is due, or nil.
local function next_due()
  local first = redis.call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2])
end

-- Takes up to `count` entries of this priority that nobody has taken yet.
local function read_new(slot, lease, count)
  local order = {'XREADGROUP', 'GROUP', GROUP, lease, 'COUNT', count, 'STREAMS', READY[slot], '>'}
  local read = redis.pcall(unpack(order))
  if type(read) == 'table' and read.err then
    -- rule:10 a lost group is made again
    if not string.find(read.err, 'NOGROUP', 1, true) then error(read.err) end
    create_group(READY[slot])
    read = redis.call(unpack(order))
  end
  return read and read[1][2] or {}
end

-- The reserved consumer at a place of RETURNED: '<slot>' for jobs without a crash,
-- '<slot>:<crashes>' for suspects.
local function consumer_at(place) return RETURNED_CONSUMER .. string.sub(place, 2) end

-- Whether the entries of this consumer wait to be taken, and nobody runs them.
local function is_waiting(consumer)
  return string.sub(consumer, 1, #RETURNED_CONSUMER) == RETURNED_CONSUMER
end

-- Whether jobs that were given back wait at a place. Forgets the place when none does.
local function waits_at(place)
  local slot = tonumber(string.sub(place, 1, 1))
  local order = {'XPENDING', READY[slot], GROUP, '-', '+', 1, consumer_at(place)}
  local pending = redis.pcall(unpack(order))
  if not pending.err and #pending > 0 then return true end
  redis.call('SREM', RETURNED, place)
  return false
end

-- Whether jobs were given back and wait for the next taker.
local function has_returned()
  for _, place in ipairs(redis.call('SMEMBERS', RETURNED)) do
    if waits_at(place) then return true end
  end
  return false
end

-- Whether the stream of this priority holds more than what is pending.
local function has_new(slot)
  local length = redis.call('XLEN', READY[slot])
  if length == 0 then return false end
  local groups = redis.pcall('XINFO', 'GROUPS', READY[slot])
  if groups.err or #groups == 0 then return true end
  for field = 1, #groups[1], 2 do
    if groups[1][field] == 'pending' then return length > groups[1][field + 1] end
  end
  return true
end

-- How many entries of each stream are ready, and how many of all are running.
local function count_entries()
  local ready, running = {0, 0, 0, 0, 0}, 0
  for slot = 1, 5 do
    local length = redis.call('XLEN', READY[slot])
    ready[slot] = length
    if length > 0 then
      -- XINFO's lag turns NULL after an XDEL; the summary of XPENDING stays exact.
      local pending = redis.pcall('XPENDING', READY[slot], GROUP)
      if not pending.err and pending[1] > 0 then
        local held = pending[1]
        for _, consumer in ipairs(pending[4]) do
          -- rule:9 what was given back is pending, and ready
          if is_waiting(consumer[1]) then held = held - tonumber(consumer[2]) end
        end
        -- rule:9 ready is the length less what is pending
        ready[slot] = length - held
        running = running + held
      end
    end
  end
  return ready, running
end

-- The clock was set back. A lease that ends later than one that is renewed now was renewed before
-- that. It ends as if it were renewed now, or the jobs of a dead worker would stay with it for as
-- long as the step.
local function pull_back_leases(now, grace)
  local from = '(' .. string.format('%.0f', now)
  local ahead = redis.call('ZRANGE', WORKERS, from, '+inf', 'BYSCORE', 'WITHSCORES')
  for position = 1, #ahead, 2 do
    local own = tonumber(redis.call('HGET', SEQUENCE, ahead[position] .. GRACE)) or grace
    -- The grace is two fifths of a lease.
    local latest = now + math.ceil(own * 5 / 2)
    if tonumber(ahead[position + 1]) > latest then
      redis.call('ZADD', WORKERS, string.format('%.0f', latest), ahead[position])
    end
  end
end

-- When no worker was heard of for longer than a lease's grace, the store itself was away. Such
-- leases are not reclaimed for one more grace, so that live workers can renew first. Each length of
-- grace has a field of its own: after a silence that means nothing to a long lease a short one must
-- be spared, and a long one for longer than a short one.
local function touch_upkeep(now, grace)
  local upkeep, holds = redis.call('HGETALL', UPKEEP), {[grace] = 0}
  local silence = math.huge
  for position = 1, #upkeep, 2 do
    local length = tonumber(string.match(upkeep[position], '^hold:(%d+)$'))
    if length then
      holds[length] = tonumber(upkeep[position + 1])
    elseif upkeep[position] == 'seen' then
      silence = now - tonumber(upkeep[position + 1])
    end
  end
  -- rule:2 a silence is measured by the grace of each lease, whoever ends it
  for length in pairs(holds) do
    if silence > length then
      holds[length] = now + length
      redis.call('HSET', UPKEEP, string.format('hold:%.0f', length),
        string.format('%.0f', holds[length]))
    end
  end
  if silence < -STEP_MS then
    for length, until_ms in pairs(holds) do
      -- rule:2 after a step back of the clock no hold counts for as long as the step
      -- rule:2 a step back of the clock ends no hold: who lives may not have renewed in it
      if until_ms > now + length then
        -- Some workers may not have been heard of since the clock went forward: it stays a hold.
        holds[length] = now + length
        redis.call('HSET', UPKEEP, string.format('hold:%.0f', length),
          string.format('%.0f', holds[length]))
      end
    end
    -- rule:2 after a step back of the clock leases end no later than they may
    pull_back_leases(now, grace)
  end
  redis.call('HSET', UPKEEP, 'seen', string.format('%.0f', now))
  return holds
end

-- Nothing is left of a lease but the jobs that it holds.
local function forget_lease(lease)
  redis.call('HDEL', WORKERS_INFO, lease)
  -- rule:7 that a worker was told to end is known until all its jobs are back
  redis.call('HDEL', SEQUENCE, lease, lease .. PARKED, lease .. GRACE, lease .. ORDERS[1],
    lease .. ORDERS[2])
  -- Last: while the entry is there, a call that fails before this line is made again.
  redis.call('ZREM', WORKERS, lease)
end

-- How many workers died with a job. What is no number comes from a foreign writer, and counts as
-- very many: as 0 it would let a job that kills its workers start over.
local function crashes_of(stored)
  local number = tonumber(stored or 0)
  if not number or number < 0 or number ~= math.floor(number) then return MOST_CRASHES end
  return math.min(number, MOST_CRASHES)
end

local function charge(field)
  -- rule:7 a farewell survives a count that is none
  local counted = redis.pcall('HINCRBY', CRASHES, field, 1)
  if type(counted) ~= 'table' then return counted end
  redis.call('HSET', CRASHES, field, MOST_CRASHES)
  return MOST_CRASHES
end

-- A lease's numbers: the highest sequence seen, and that of the last exchange applied. A resync
-- raises only the first, for a second resync must have the same answer.
local function read_sequence(lease)
  local stored = redis.call('HGET', SEQUENCE, lease) or '0'
  local seen, applied = string.match(stored, '^(%d+) (%d+)$')
  if seen then return tonumber(seen), tonumber(applied) end
  return tonumber(stored), tonumber(stored)
end

-- The name of the job function in an envelope, or nil. Ours begin with their version and the name,
-- so no argument can look like it. What another program has written is decoded.
local function function_in(envelope)
  local name = string.match(envelope, '^{"v":%d+,"f":"([^"\\]*)"')
  if name then return name end
  local is_read, fields = pcall(cjson.decode, envelope)
  name = is_read and type(fields) == 'table' and fields.f
  return type(name) == 'string' and name or nil
end

-- How many jobs of paused functions one exchange sets aside, and how many one call brings back, at
-- the most.
local MOST_MOVED = 1000
