#!lua flags=allow-oom
-- Settles finished jobs, promotes due ones and takes new ones for one lease.
-- KEYS: the queue's; then the result key of each settlement that carries an outcome,
--   in the order of the settlements.
-- ARGV: 2 lease id; 3 sequence; 4 id_ttl_ms; the demand: 5 slots, 6 guard, 7 guard from,
--   8 suspects, 9 alone (1 or 0), 10 lone crashes; 11 number of settlements; then these, each
--   led by an operation and a priority in one word:
--     f<p><state>  entry id                        finished
--     o<p><state>  entry id ttl_ms outcome         finished, outcome kept
--     d<p>         entry id ttl_ms outcome letter  dead; no outcome kept when ttl_ms is 0
--     r<p>         entry id delay_ms envelope      again later
--     b<p>         entry id                        given back
-- Result: {'lost', now} | {'stale', last sequence} | {'ok', now, next due or -1, next lease
--   end or -1, 1 when ready jobs are left, places of settlements without effect, places of
--   those for a later attempt that were cancelled instead, ids of held jobs to cancel,
--   {{priority, entries, crashes or nothing}, ...}, number of jobs promoted}.
local lease, sequence = ARGV[2], tonumber(ARGV[3])
local id_ttl, slots, guard = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local guard_from, suspects = tonumber(ARGV[7]), tonumber(ARGV[8])
local alone, lone_crashes = ARGV[9] == '1', tonumber(ARGV[10])
local settlements = tonumber(ARGV[11])
local WIDTH = {f = 3, o = 5, d = 6, r = 5, b = 3}
local FIRST, STEP, MAX_BYTES, MOST_MARKS = 12, 32, 4194304, 100

local is_known, lease_end = look_at_leases(lease)
if not is_known then return {'lost', store_now()} end
local last = read_sequence(lease)
if sequence <= last then return {'stale', last} end

-- What each word says, looked into once: there are few, and many settlements.
local words = setmetatable({}, {__index = function(known, word)
  local operation = string.sub(word, 1, 1)
  local slot = (tonumber(string.sub(word, 2, 2)) or -1) + 1
  if not WIDTH[operation] or not READY[slot] then return nil end
  known[word] = {operation, slot, string.sub(word, 3, 3), WIDTH[operation]}
  return known[word]
end})

-- Everything is checked before the first write: an error later would not roll back.
local at = FIRST
for _ = 1, settlements do
  local word = words[ARGV[at] or '']
  if not word then return redis.error_reply('ERR bad settlement') end
  local width = word[4]
  if width > 3 and not tonumber(ARGV[at + 3]) then return redis.error_reply('ERR bad number') end
  at = at + width
end
if at ~= #ARGV + 1 then return redis.error_reply('ERR bad length') end

local now = store_now()
redis.call('HSET', SEQUENCE, lease, sequence)
-- Most of the time there is none of these, and one question is enough.
local rare = redis.call('EXISTS', CANCEL, CRASHES, AWAITED, PROGRESS, RETURNED) > 0
local marked = rare and redis.call('EXISTS', CANCEL) == 1
-- Marks of other leases cost this one no more than these two questions.
local has_marks = marked and #marks_of(lease, 1) > 0
local crashed = rare and redis.call('EXISTS', CRASHES) == 1
local awaited = rare and redis.call('EXISTS', AWAITED) == 1

local not_yours, cancelled, finished, gone = {}, {}, {}, {}
local uncrashed, index = {}, {}
local result_key = OWN_KEYS
local ended, rescheduled = {}, 0

local function finish(id, state, key, ttl, outcome)
  gone[#gone + 1] = id
  ended[state] = (ended[state] or 0) + 1
  -- Only a foreign writer can make an empty id; remembered, it would overwrite the field
  -- that says until when the hash counts.
  if id ~= '' then
    finished[#finished + 1] = id
    finished[#finished + 1] = state
  end
  if key then redis.call('SET', key, outcome, 'PX', ttl) end
  if awaited then announce(id, key and outcome or '') end
end

local function release(slot, entry, id)
  local mine = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, lease)
  if mine.err or #mine == 0 then return false end
  redis.call('XCLAIM', READY[slot], GROUP, RETURNED_CONSUMER, 0, entry, 'JUSTID')
  redis.call('SADD', RETURNED, slot)
  rare = true
  -- The next taker is told to cancel it; this lease must not be any more.
  if has_marks and redis.call('HEXISTS', CANCEL, id) == 1 then mark(id, '') end
  return true
end

local settled, positions, missing = {{}, {}, {}, {}}, {{}, {}, {}, {}}, {}
at = FIRST
for position = 1, settlements do
  local word = words[ARGV[at]]
  local slot = word[2]
  if word[1] ~= 'b' then
    settled[slot][#settled[slot] + 1] = ARGV[at + 1]
    positions[slot][#positions[slot] + 1] = position
  end
  at = at + word[4]
end

-- Acknowledges entries together, for a call each costs more than the rest of a settlement.
-- Where some were not pending, each is asked for: only one that is still in the stream counts.
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
  elseif missing[position] then
    -- Reclaimed meanwhile: whoever owns the job now says how it ended.
    not_yours[#not_yours + 1] = position
  else
    if crashed then uncrashed[#uncrashed + 1] = (slot - 1) .. ':' .. entry end
    if operation == 'f' then
      finish(id, word[3])
    elseif operation == 'o' then
      finish(id, word[3], key, ARGV[at + 3], ARGV[at + 4])
    elseif operation == 'd' then
      redis.call('ZADD', DEAD, string.format('%.0f', now), id)
      redis.call('HSET', DEAD_DATA, id, (slot - 1) .. ARGV[at + 5])
      finish(id, 'd', key, ARGV[at + 3], ARGV[at + 4])
    elseif has_marks and redis.call('HEXISTS', CANCEL, id) == 1 then
      finish(id, 'c')
      cancelled[#cancelled + 1] = position
    else
      redis.call('ZADD', SCHEDULED, string.format('%.0f', now + tonumber(ARGV[at + 3])), id)
      redis.call('HSET', SCHEDULED_DATA, id, (slot - 1) .. ARGV[at + 4])
      index[#index + 1] = id
      index[#index + 1] = 's'
      rescheduled = rescheduled + 1
    end
  end
  at = at + word[4]
end
for slot = 1, 4 do in_chunks('XDEL', READY[slot], settled[slot]) end
if #gone > 0 then
  in_chunks('HDEL', INDEX, gone)
  if has_marks then
    local marks = {}
    for position = 1, #gone do marks[position] = lease .. '\0' .. gone[position] end
    in_chunks('HDEL', CANCEL, gone)
    in_chunks('ZREM', CANCEL_HELD, marks)
  end
  if rare and redis.call('EXISTS', PROGRESS) == 1 then in_chunks('HDEL', PROGRESS, gone) end
  remember(now, id_ttl, finished)
end
for state, number in pairs(ended) do tally(now, state, number) end
tally(now, 'r', rescheduled)
if #uncrashed > 0 then in_chunks('HDEL', CRASHES, uncrashed) end

local due_ms, promoted = next_due(), 0
if due_ms and due_ms <= now then
  local due = redis.call('ZRANGE', SCHEDULED, '-inf', string.format('%.0f', now), 'BYSCORE',
    'LIMIT', 0, math.max(100, slots))
  for position = 1, #due do
    local stored = redis.call('HGET', SCHEDULED_DATA, due[position])
    if stored then
      promoted = promoted + 1
      index[#index + 1] = due[position]
      index[#index + 1] = append_ready(tonumber(string.sub(stored, 1, 1)), due[position],
        string.sub(stored, 2))
    end
  end
  in_chunks('ZREM', SCHEDULED, due)
  in_chunks('HDEL', SCHEDULED_DATA, due)
  due_ms = next_due()
end
in_chunks('HSET', INDEX, index)

local taken, bytes, cancels = {}, 0, {}
-- Which priorities have jobs that were given back, and which nothing new any more.
local returned, drained = {}, {}
if rare then
  for _, slot in ipairs(redis.call('SMEMBERS', RETURNED)) do returned[tonumber(slot)] = true end
end

local function add(slot, entries, crashes)
  if #entries == 0 then return 0 end
  taken[#taken + 1] = {slot - 1, entries, crashes}
  for position = 1, #entries do bytes = bytes + #entries[position][2][2] end
  return #entries
end

-- Whether a job with so many crashes may be handed out now; remembers that it is.
local function admit(crashes)
  if crashes == 0 then return true end
  if suspects <= 0 or (crashes >= lone_crashes and not alone) then return false end
  suspects, alone = suspects - 1, false
  if crashes >= lone_crashes then suspects = 0 end
  return true
end

local function claim(slot, entries)
  local order = {READY[slot], GROUP, lease, 0, unpack(entries)}
  local claimed, fields = redis.call('XCLAIM', unpack(order)), {}
  if #claimed == 0 then return 0 end
  for position = 1, #claimed do
    fields[position] = (slot - 1) .. ':' .. claimed[position][1]
    local id = claimed[position][2][1]
    if marked and redis.call('HEXISTS', CANCEL, id) == 1 then
      mark(id, lease)
      cancels[#cancels + 1] = id
    end
  end
  return add(slot, claimed, redis.call('HMGET', CRASHES, unpack(fields)))
end

-- Looks through the jobs given back, a step at a time and at most 2,000, past suspects
-- that are not admitted. Returns how many were taken; nothing is looked through again
-- once the end was reached.
local function take_returned(slot, want)
  local from, got, passed = '-', 0, false
  for _ = 1, 64 do
    local pending = redis.pcall('XPENDING', READY[slot], GROUP, from, '+', STEP, RETURNED_CONSUMER)
    if pending.err then
      create_group(READY[slot])
      pending = {}
    end
    local chosen = {}
    for position = 1, #pending do
      local entry = pending[position][1]
      local crashes = redis.call('HGET', CRASHES, (slot - 1) .. ':' .. entry)
      if #chosen + got < want and admit(tonumber(crashes or '0')) then
        chosen[#chosen + 1] = entry
      else
        passed = true
      end
    end
    if #chosen > 0 then got = got + claim(slot, chosen) end
    if #pending < STEP then
      if not passed then redis.call('SREM', RETURNED, slot) end
      if got < want then returned[slot] = nil end
      return got
    end
    if got >= want or bytes >= MAX_BYTES then return got end
    from = '(' .. pending[#pending][1]
  end
  returned[slot] = nil
  return got
end

-- Takes up to `want` from one priority in steps, so that one oversized batch cannot
-- keep the server from everybody else. Returns how many are still wanted.
local function take(slot, want)
  if want <= 0 or bytes >= MAX_BYTES or drained[slot] then return want end
  if redis.call('XLEN', READY[slot]) == 0 then
    drained[slot] = true
    return want
  end
  if returned[slot] then want = want - take_returned(slot, want) end
  while want > 0 and bytes < MAX_BYTES do
    local step = math.min(STEP, want)
    local got = add(slot, read_new(slot, lease, step))
    want = want - got
    if got < step then
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
  wanted = wanted - (guard - left)
end
for slot = 1, 4 do wanted = take(slot, wanted) end

local left_ready = 0
if wanted == 0 or bytes >= MAX_BYTES then
  for slot = 1, 4 do
    if rare and has_returned(slot) or not drained[slot] and has_new(slot) then
      left_ready = 1
      break
    end
  end
  if left_ready == 1 then wake() end
end

-- Of many marks only some: heartbeats tell of all, and jobs that take their time to stop would
-- otherwise make each exchange as long as they are many.
if has_marks then
  local told = {}
  for position = 1, #cancels do told[cancels[position]] = true end
  for _, id in ipairs(marks_of(lease, MOST_MARKS)) do
    if not told[id] then cancels[#cancels + 1] = id end
  end
end
return {'ok', now, due_ms or -1, lease_end, left_ready, not_yours, cancelled, cancels,
  taken, promoted}
