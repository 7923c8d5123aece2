-- A part of exchange.lua: it settles. Nothing in front of it has written anything but the sequence.
-- KEYS: those of exchange.lua.
-- ARGV: those of exchange.lua.
-- Result: none of its own. It fills not_yours and cancelled.
local finished, gone = {}, {}
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

local settled, positions, missing = {{}, {}, {}, {}, {}}, {{}, {}, {}, {}, {}}, {}
-- Of jobs with a gate: those that run no longer, their entries, and which of them have ended.
local left, left_entries, left_for_good = {}, {}, {}

-- The stream in which an entry stands, for a job of this priority.
local function slot_of(slot, entry)
  if GATES and string.byte(entry, 2) == 45 then return 5 end
  return slot
end

at = FIRST
for position = 1, settlements do
  local word = words[ARGV[at]]
  local slot = slot_of(word[2], ARGV[at + 1])
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
for slot = 1, 5 do acknowledge(slot, settled[slot]) end

-- Directly behind the acknowledgements: whatever fails later must not lose these jobs. A success
-- that is sent again finds its entry gone, and stores nothing.
local stored, signals = 0, false
if has_effects then
  if effects.placing and effects.placing.is_unique then
    local over = {}
    at = FIRST
    for position = 1, settlements do
      local word = words[ARGV[at]]
      local is_over = word[1] ~= 'r' and word[1] ~= 'b' and not missing[position]
      if is_over then over[#over + 1] = ARGV[at + 2] end
      at = at + word[4]
    end
    -- rule:37 a job that has ended holds its key against none that its success stores
    locks.ended(over)
  end
  stored, signals = effects.store(missing)
  if effects.placing then effects.placing.end_refused(ARGV[4], ARGV[10]) end
  STEP = portion(STEP)
end

at = FIRST
for position = 1, settlements do
  local word, entry, id = words[ARGV[at]], ARGV[at + 1], ARGV[at + 2]
  local operation, slot = word[1], slot_of(word[2], entry)
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
    if crashed then
      uncrashed[#uncrashed + 1] = slot == 5 and 'g:' .. id or (slot - 1) .. ':' .. entry
    end
    if slot == 5 then
      left[#left + 1] = id
      left_entries[#left_entries + 1] = entry
      left_for_good[#left_for_good + 1] = id
    end
    if operation == 'f' then
      finish(id, word[3])
    elseif operation == 'o' then
      finish(id, word[3], key, ARGV[at + 3], ARGV[at + 4])
    elseif operation == 'd' then
      bury(id, now, (word[2] - 1) .. ARGV[at + 5])
      finish(id, END['dead'], key, ARGV[at + 3], ARGV[at + 4])
    -- rule:8 a marked job is not run again by a retry
    elseif has_marks and redis.call('HEXISTS', CANCEL, id) == 1 then
      finish(id, END['cancelled'])
      -- rule:8 a worker hears that the retry of a marked job is dropped
      cancelled[#cancelled + 1] = position
    else
      local delay = tonumber(ARGV[at + 3])
      if slot == 5 then
        left_for_good[#left_for_good] = nil
        -- rule:34 a job that was told to come back later closes its keys until then
        if word[3] == 'c' then GATES.close(id, now + delay) end
      end
      -- Whoever sends the event ends the wait.
      local notes = word[3] == 'w' and string.sub(WAKE, 1, -5) .. 'notes:' .. id
      -- rule:31 an event that has come before the job sleeps makes it due at once
      if notes and redis.pcall('HEXISTS', notes, 'waits') ~= 1 then delay = 0 end
      redis.call('ZADD', SCHEDULED, string.format('%.0f', now + delay), id)
      redis.call('HSET', SCHEDULED_DATA, id, (word[2] - 1) .. ARGV[at + 4])
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
for slot = 1, 5 do in_chunks('XDEL', READY[slot], settled[slot]) end
in_chunks('HSET', INDEX, index)
if #left > 0 then
  -- Behind what is written of those that run again: it may wake others that wait at their gates.
  -- rule:34 each end of an attempt gives its permits back
  GATES.leave(left, left_entries)
  -- rule:34 nothing is left of the gate of a job that has ended
  GATES.forget(left_for_good)
end
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
  -- rule:36 the end of a job counts in its own step
  if barriers then barriers.ended(finished, false) end
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
