-- A part of exchange.lua: it takes jobs, behind the settlements and the promotion.
-- KEYS: those of exchange.lua.
-- ARGV: those of exchange.lua.
-- Result: none of its own.
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

local function add(slot, entries, crashes, priorities, since)
  if #entries == 0 then return 0 end
  -- rule:21 an exchange notes which unique jobs have started
  if locks then locks.begin(entries) end
  taken[#taken + 1] = {slot - 1, entries, crashes or priorities and {}, priorities, since}
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
local function take_from_stream(slot, want)
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

-- Tells the lease of marks that come with these jobs.
local function take_marks(entries)
  for position = 1, #entries do
    local id = entries[position][2][1]
    if redis.call('HEXISTS', CANCEL, id) == 1 then
      mark(id, lease)
      cancels[#cancels + 1] = id
    end
  end
end

-- Takes up to `want` jobs of a class from lanes. Returns how many.
local function take_from_lanes(class, want)
  if want <= 0 or bytes >= MAX_BYTES then return 0 end
  local found, number, size = hand_out(GATES, class, want, lease, paused, MAX_BYTES - bytes)
  local before = bytes
  aside = aside + number
  if marked then take_marks(found[1]) end
  add(5, found[1], found[4], found[2], found[3])
  bytes = before + size
  if aside >= MOST_MOVED then bytes = math.max(bytes, MAX_BYTES) end
  return #found[1]
end

-- Takes up to `want` suspects that wait in lanes, those with the fewest crashes first.
local function take_suspects(want)
  for _ = 1, MOST_CRASHES do
    local class = GATES.first_in_line(4)
    local room = class and math.min(want, room_for(class - 3)) or 0
    if room <= 0 then
      -- They keep nobody from the permits that they were let in for.
      if class then GATES.pass_by(class) end
      break
    end
    local number = take_from_lanes(class, room)
    if number == 0 then break end
    -- Of suspects at gates, too, the one with the most crashes decides.
    most = math.min(most, rooms[math.min(class - 3, #rooms)])
    given, want = given + number, want - number
  end
  return want
end

-- Takes up to `want` jobs of one priority, from lanes and from its stream. Returns how many are
-- still wanted.
local function take(slot, want)
  if not GATES or GATES.first_in_line(slot - 1) ~= slot - 1 then
    return take_from_stream(slot, want)
  end
  local part = want
  if want > 0 and not drained[slot] and (waiting[slot] or has_new(slot)) then
    -- rule:34 jobs with a gate and others of one priority share
    part = GATES.half(slot - 1, want)
  end
  want = take_from_stream(slot, want - take_from_lanes(slot - 1, part))
  return want - take_from_lanes(slot - 1, want)
end

local wanted = slots
if GATES and wanted > 0 then
  wanted = take_suspects(wanted)
  slots = wanted
end
if guard > 0 then
  guard = math.min(guard, slots)
  local left = take(guard_from + 1, guard)
  for slot = 4, 1, -1 do left = take(slot, left) end
  -- rule:12 a script takes no more than it is asked for
  wanted = wanted - (guard - left)
end
for slot = 1, 4 do wanted = take(slot, wanted) end
