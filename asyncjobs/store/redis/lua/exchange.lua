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
--   then for each job that a success stores: the place of the settlement, and what enqueue.lua
--   says of a job: id, priority, due, envelope.
-- Result: {'lost', now} | {'stale', last sequence} | {'ok', now, next due or -1, next lease
--   end or -1, 1 when ready jobs are left and 2 when the queue is paused, places of
--   settlements without effect, places of those for a later attempt that were cancelled
--   instead, ids of held jobs to cancel, {{priority, entries, crashes or nothing}, ...}, number
--   of jobs promoted, the fewest crashes of a suspect that is left or 0}.
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
  if not WIDTH[operation] or not READY[slot] then return nil end
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
local first_effect, effects = at, nil
local has_effects = first_effect <= #ARGV
if has_effects then
  local failed
  effects, failed = new_effects(first_effect)
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

local now = store_now()
if has_effects then effects.look_up(now) end
-- Most of the time none of these keys exists, and one question is enough.
local rare = redis.call('EXISTS', CANCEL, CRASHES, AWAITED, NOTED, RETURNED, LARGEST,
  PROGRESS, PAUSED, UNIQUE_OF) > 0
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
if locks then locks.check() end
local is_paused, paused = false, nil
if rare and redis.call('EXISTS', PAUSED) == 1 then
  check_returns()
  is_paused, paused = read_paused()
end
redis.call('HSET', SEQUENCE, lease, sequence)

local not_yours, cancelled, finished, gone = {}, {}, {}, {}
local uncrashed, index, unnoted = {}, {}, {}
local result_key = OWN_KEYS
local ended, rescheduled = {}, 0

local function finish(id, state, key, ttl, outcome)
  gone[#gone + 1] = id
  ended[state] = (ended[state] or 0) + 1
  -- The notes of a dead job are kept with its letter by now.
  if noted and state ~= END['dead'] then unnoted[#unnoted + 1] = id end
  -- Only a foreign writer can make an empty id. To remember it would overwrite the field that
  -- says until when the hash counts.
  if id ~= '' then
    finished[#finished + 1] = id
    finished[#finished + 1] = state
  end
  if key then redis.call('SET', key, outcome, 'PX', ttl) end
  if awaited then announce(id, key and outcome or '') end
end

local function release(slot, entry, id)
  local mine = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, lease)
  -- rule:5 a release has an effect only on what the lease holds
  if mine.err or #mine == 0 then return false end
  give_back(slot, {entry}, false)
  -- rule:3 what an exchange has given back is seen by its own taking
  rare = true
  -- The next lease that takes the job is told to cancel it, and this one must not be any more.
  if has_marks and redis.call('HEXISTS', CANCEL, id) == 1 then mark(id, '') end
  return true
end

local settled, positions, missing = {{}, {}, {}, {}}, {{}, {}, {}, {}}, {}
at = FIRST
for position = 1, settlements do
  local word = words[ARGV[at]]
  local slot = word[2]
  -- XACK accepts an entry whoever it is pending for. The jobs that a success stores cannot be
  -- taken back when the holder settles later, so here the holder is asked for.
  if has_effects and effects.carriers[position] then
    local entry = ARGV[at + 1]
    local mine = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, lease)
    -- rule:5 a success stores jobs only while its lease holds the job
    missing[position] = mine.err ~= nil or #mine == 0 or nil
  end
  if word[1] ~= 'b' and not missing[position] then
    settled[slot][#settled[slot] + 1] = ARGV[at + 1]
    positions[slot][#positions[slot] + 1] = position
  end
  at = at + word[4]
end

-- Acknowledges entries together, for one XACK each would cost more than the rest of a settlement.
-- When some of them were not pending, each is deleted by itself: it counts only if it is still in
-- the stream.
local function acknowledge(slot, entries)
  for first = 1, #entries, CHUNK do
    local last = math.min(first + CHUNK - 1, #entries)
    local count = redis.call('XACK', READY[slot], GROUP, unpack(entries, first, last))
    for place = first, count <= last - first and last or 0 do
      if redis.call('XDEL', READY[slot], entries[place]) == 0 then
        missing[positions[slot][place]] = true
      end
    end
  end
end
for slot = 1, 4 do acknowledge(slot, settled[slot]) end

-- Directly behind the acknowledgements: whatever fails later must not lose these jobs. A success
-- that is sent again finds its entry gone, and stores nothing.
local stored, signals = 0, false
if has_effects then
  stored, signals = effects.store(missing, now)
  STEP = portion(STEP)
end

at = FIRST
for position = 1, settlements do
  local word, entry, id = words[ARGV[at]], ARGV[at + 1], ARGV[at + 2]
  local operation, slot = word[1], word[2]
  local key
  if operation == 'o' or (operation == 'd' and ARGV[at + 3] ~= '0') then
    result_key = result_key + 1
    key = KEYS[result_key]
  end
  if operation == 'b' then
    if not release(slot, entry, id) then not_yours[#not_yours + 1] = position end
  -- rule:5 a settlement has an effect only if its entry was acknowledged
  elseif missing[position] then
    -- It was reclaimed meanwhile. The lease that holds the job now says how it ends.
    not_yours[#not_yours + 1] = position
  else
    if crashed then uncrashed[#uncrashed + 1] = (slot - 1) .. ':' .. entry end
    if operation == 'f' then
      finish(id, word[3])
    elseif operation == 'o' then
      finish(id, word[3], key, ARGV[at + 3], ARGV[at + 4])
    elseif operation == 'd' then
      bury(id, now, (slot - 1) .. ARGV[at + 5])
      finish(id, END['dead'], key, ARGV[at + 3], ARGV[at + 4])
    -- rule:8 a marked job is not run again by a retry
    elseif has_marks and redis.call('HEXISTS', CANCEL, id) == 1 then
      finish(id, END['cancelled'])
      -- rule:8 a worker hears that the retry of a marked job is dropped
      cancelled[#cancelled + 1] = position
    else
      local delay = tonumber(ARGV[at + 3])
      -- Whoever sends the event ends the wait.
      local notes = word[3] == 'w' and string.sub(WAKE, 1, -5) .. 'notes:' .. id
      -- rule:31 an event that has come before the job sleeps makes it due at once
      if notes and redis.pcall('HEXISTS', notes, 'waits') ~= 1 then delay = 0 end
      redis.call('ZADD', SCHEDULED, string.format('%.0f', now + delay), id)
      redis.call('HSET', SCHEDULED_DATA, id, (slot - 1) .. ARGV[at + 4])
      -- rule:21 the time of a lock does not pass while its job waits for a retry
      if locks then locks.prolong(id, delay) end
      index[#index + 1] = id
      index[#index + 1] = 's'
      rescheduled = rescheduled + 1
    end
  end
  at = at + word[4]
end
-- rule:9 a settled entry is deleted
for slot = 1, 4 do in_chunks('XDEL', READY[slot], settled[slot]) end
in_chunks('HSET', INDEX, index)
if #gone > 0 then
  in_chunks('HDEL', INDEX, gone)
  if has_marks then
    local marks = {}
    for position = 1, #gone do marks[position] = lease .. '\0' .. gone[position] end
    in_chunks('HDEL', CANCEL, gone)
    in_chunks('ZREM', CANCEL_HELD, marks)
  end
  -- rule:9 nothing is left of the notes of a job that has ended
  drop_notes(unnoted)
  -- rule:9 nothing is left of the progress that an older release has kept of it
  if has_old_progress then in_chunks('HDEL', PROGRESS, gone) end
  if locks then
    -- rule:21 a settlement frees the keys of jobs that have ended
    locks.ended(gone)
    -- One that goes on now is taken below, or signals there.
    -- rule:1 a held job that goes on later, before all others, signals
    if locks.is_earlier then wake() end
  end
  remember(now, id_ttl, finished)
end
for state, number in pairs(ended) do tally(now, state, number) end
tally(now, 'r', rescheduled)
-- rule:19 what counts is in the history in the same step
if ARGV[11] ~= '' and #gone > 0 then
  record_ends(now, tonumber(ARGV[10]), #gone, ARGV[11], not_yours, cancelled)
end
-- rule:7 nothing is left of the crashes of a job that has ended
if #uncrashed > 0 then in_chunks('HDEL', CRASHES, uncrashed) end
if has_effects then
  tally(now, 'e', stored)
  -- A ready job is taken below, or signals there. Only a new earliest time has to signal here, or
  -- a sleeping worker would sleep past it.
  -- rule:1 a job that a success stores for later, before all others, signals
  if signals then wake() end
end

local due_ms, promoted = next_due(), 0
if due_ms and due_ms <= now then
  local failed
  promoted, failed = promote(now, math.max(100, slots))
  if failed then return failed end
  -- rule:10 the next due time is that after a promotion
  due_ms = next_due()
end

-- What has ended is settled, and what is due becomes ready. Only the handing out stops.
-- rule:18 a paused queue hands out nothing
if is_paused then slots, guard = 0, 0 end

local taken, bytes, cancels = {}, 0, {}
-- Which priorities have no new jobs any more, and where jobs that were given back wait: by
-- priority, the crashes they have been through, fewest first. So most suspects are done before the
-- likely culprits run.
local drained, waiting, rooms = {}, {}, {}
if rare then
  for _, place in ipairs(redis.call('SMEMBERS', RETURNED)) do
    local slot, crashes = string.match(place, '^(%d):?(%d*)$')
    slot = tonumber(slot)
    if READY[slot or 0] then
      waiting[slot] = waiting[slot] or {}
      table.insert(waiting[slot], tonumber(crashes) or 0)
    end
  end
  -- rule:7 those with the fewest crashes come first
  for _, numbers in pairs(waiting) do table.sort(numbers) end
  for room in string.gmatch(ARGV[8], '%d+') do rooms[#rooms + 1] = tonumber(room) end
end

local function add(slot, entries, crashes)
  if #entries == 0 then return 0 end
  -- rule:21 an exchange notes which unique jobs have started
  if locks then locks.begin(entries) end
  taken[#taken + 1] = {slot - 1, entries, crashes}
  local largest, entry = 0, nil
  for position = 1, #entries do
    local size = #entries[position][2][2]
    bytes = bytes + size
    if size > largest then largest, entry = size, entries[position][1] end
  end
  -- It is noted already, unless a foreign writer has made the entry.
  note_large(largest, entry)
  return #entries
end

-- Jobs that are handed out together are blamed together. So the one of them with the most crashes
-- decides how many they may be.
local given, most = 0, math.huge
local function room_for(crashes)
  return math.min(most, rooms[math.min(crashes, #rooms)] or 0) - given
end

-- Entries of paused functions are set aside, at most so many; the others are handed out.
local aside = 0
local function without_paused(slot, entries, is_fresh)
  local others, number, size = set_aside(slot, entries, paused, is_fresh)
  aside, bytes = aside + number, bytes + size
  -- As after 4 MiB: what is behind is left to the next exchange.
  -- rule:11 an exchange sets a bounded number of jobs aside
  if aside >= MOST_MOVED then bytes = math.max(bytes, MAX_BYTES) end
  return others
end

local function claim(slot, pending, is_suspect)
  local order = {'XCLAIM', READY[slot], GROUP, lease, 0}
  for position = 1, #pending do order[position + 5] = pending[position][1] end
  local claimed, fields = redis.call(unpack(order)), {}
  -- rule:18 a job that was given back waits while its function is paused
  if paused then claimed = without_paused(slot, claimed, false) end
  if #claimed == 0 then return 0 end
  for position = 1, #claimed do
    fields[position] = (slot - 1) .. ':' .. claimed[position][1]
    local id = claimed[position][2][1]
    if marked and redis.call('HEXISTS', CANCEL, id) == 1 then
      -- rule:8 a mark goes with its job to the lease that takes it
      mark(id, lease)
      -- rule:8 a mark that comes with its job is told
      cancels[#cancels + 1] = id
    end
  end
  return add(slot, claimed, is_suspect and redis.call('HMGET', CRASHES, unpack(fields)) or nil)
end

-- Takes up to `want` jobs that wait at one place. Returns how many, and whether none is left.
local function take_at(slot, place, want, is_suspect)
  local got, most_aside = 0, 0
  -- Jobs that are set aside use up rounds and fill no slot.
  -- rule:18 of jobs that were given back none waits behind those of a paused function
  if paused then most_aside = MOST_MOVED end
  -- More than enough rounds, also when a portion is one job: some entries may be gone.
  -- rule:1 of jobs that were given back all are taken for which there are slots
  for _ = 1, 64 + want + most_aside do
    if got >= want or bytes >= MAX_BYTES then return got, false end
    local step = math.min(STEP, want - got)
    local pending = redis.pcall('XPENDING', READY[slot], GROUP, '-', '+', step, consumer_at(place))
    if pending.err then
      create_group(READY[slot])
      pending = {}
    end
    if #pending > 0 then got = got + claim(slot, pending, is_suspect) end
    if #pending < step then
      redis.call('SREM', RETURNED, place)
      return got, true
    end
  end
  return got, false
end

-- Takes up to `want` jobs of one priority that were given back, but no more suspects than there is
-- room for.
local function take_returned(slot, want)
  local got, left = 0, {}
  for _, crashes in ipairs(waiting[slot]) do
    local place, room = tostring(slot), want - got
    if crashes > 0 then
      -- rule:7 no more suspects than there is room for
      place, room = slot .. ':' .. crashes, math.min(room, room_for(crashes))
    end
    local number, is_all = take_at(slot, place, room, crashes > 0)
    if crashes > 0 and number > 0 then
      -- rule:7 of the suspects the one with the most crashes decides
      most = math.min(most, rooms[math.min(crashes, #rooms)])
      -- rule:7 what is handed out uses up the room
      given = given + number
    end
    got = got + number
    if not is_all then left[#left + 1] = crashes end
  end
  waiting[slot] = left
  return got
end

-- Takes up to `want` jobs from one priority, in steps: one read of many large jobs would keep the
-- server from everybody else. Returns how many are still wanted.
-- rule:3 returned jobs are taken before new ones
local function take(slot, want)
  if want <= 0 or bytes >= MAX_BYTES or drained[slot] then return want end
  -- rule:12 empty streams are skipped
  if redis.call('XLEN', READY[slot]) == 0 then
    drained[slot] = true
    return want
  end
  if waiting[slot] then want = want - take_returned(slot, want) end
  while want > 0 and bytes < MAX_BYTES do
    local step = math.min(STEP, want)
    local entries = read_new(slot, lease, step)
    local read = #entries
    -- rule:18 a job waits while its function is paused
    if paused then entries = without_paused(slot, entries, true) end
    want = want - add(slot, entries)
    if read < step then
      drained[slot] = true
      break
    end
  end
  return want
end

local wanted = slots
if guard > 0 then
  guard = math.min(guard, slots)
  local left = take(guard_from + 1, guard)
  for slot = 4, 1, -1 do left = take(slot, left) end
  -- rule:12 a script takes no more than it is asked for
  wanted = wanted - (guard - left)
end
for slot = 1, 4 do wanted = take(slot, wanted) end

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
-- rule:8 an exchange returns the marks
return {'ok', now, due_ms or -1, lease_end, left_ready, not_yours, cancelled, cancels,
  taken, promoted, fewest}
