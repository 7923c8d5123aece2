-- Hands out the jobs of lanes in line, for exchange.lua. It stands behind gates.lua.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- Hands out up to `want` jobs of a class to a lease, and at most about so many bytes. Lanes give one
-- job after the other, each as many in its turn as its share. `paused`: as read_paused says it.
-- Returns {entries, priorities, since when each was ready, crashes of suspects}, how many jobs were
-- set aside, and the bytes of all.
local function hand_out(gates, class, want, lease, paused, most_bytes)
  local base, rooms = gates.base, gates.rooms
  local LANES, DATA = base .. 'lanes', base .. 'gated:data'
  local PERMITS, OF = base .. 'permits', base .. 'gated:of'
  -- What one start moves a lane with the share 1 on; how many lanes are looked at.
  local TURN, MOST_LANES = 60, 1000
  local picks, bytes, aside, tried, at_once = {}, 0, 0, 0, 1

  -- The next jobs of a lane, read in portions: nobody knows how large they are.
  local function refill(lane)
    local low, high = '[' .. lane.name .. '\0', '(' .. lane.name .. '\1'
    if not lane.fixed then
      high = '(' .. lane.name .. '\0' .. (class + 1)
      low = low .. class
    end
    if lane.after then low = '(' .. lane.after end
    local members = redis.call('ZRANGE', LANES, low, high, 'BYLEX', 'LIMIT', 0, at_once)
    lane.items, lane.position = {}, 1
    if #members == 0 then return end
    local ids = {}
    for position = 1, #members do ids[position] = string.sub(members[position], #lane.name + 31) end
    local stored = redis.call('HMGET', DATA, unpack(ids))
    for position = 1, #members do
      lane.items[position] = {members[position], ids[position], stored[position] or '2', lane}
    end
    lane.after = members[#members]
  end

  -- Sets a job of a paused function aside, unless it came back from there. Whether it did.
  local function set_job_aside(lane, item)
    local name = function_in(string.sub(item[3], 2))
    local phase = name and name ~= '' and paused[name]
    if not phase then return false end
    local of = redis.call('HGET', OF, item[2]) or ''
    if phase == 'r' and string.sub(of, 1, 1) == 'b' then return false end
    -- A job of a paused function stands aside and holds no permit.
    redis.call('ZREM', LANES, item[1])
    redis.call('ZADD', LANES, 0,
      '@' .. #name .. ':' .. name .. string.sub(item[1], #lane.name + 1))
    redis.call('HSET', OF, item[2], 'a' .. string.sub(of, 2))
    aside, bytes = aside + 1, bytes + #item[3]
    return true
  end

  local function next_item(lane)
    while true do
      if not lane.items or lane.position > #lane.items then refill(lane) end
      local item = lane.items[lane.position]
      if not item then return nil end
      if not paused or not set_job_aside(lane, item) then return item end
      lane.position = lane.position + 1
      if aside >= MOST_MOVED then return nil end
    end
  end

  -- Whether a job of this lane may pass, all its limits together.
  local function pass(lane)
    for position = 1, #lane.uses do
      local use = rooms.use(lane.uses[position].text)
      -- rule:34 a job passes all limits of its gate, or none
      if rooms.room(use, lane.uses[position].tokens) < 1 then return false end
    end
    for position = 1, #lane.uses do
      rooms.start(rooms.use(lane.uses[position].text), lane.uses[position].tokens)
    end
    return true
  end

  -- Lets these lanes give jobs until there are enough, or no lane can give one.
  local function go_round(open, seen)
    while want > 0 and bytes < most_bytes and #open > 0 do
      local still = {}
      for _, lane in ipairs(open) do
        local given = 0
        seen[lane] = want > 0 or seen[lane]
        while want > 0 and bytes < most_bytes and given < lane.share do
          local item = next_item(lane)
          if not item or not pass(lane) then break end
          lane.position, lane.got = lane.position + 1, lane.got + 1
          given, want, bytes = given + 1, want - 1, bytes + #item[3]
          picks[#picks + 1] = item
        end
        if given == lane.share then still[#still + 1] = lane end
      end
      open = still
    end
  end

  -- Gives what was picked since the last time to the lease.
  local entries, priorities, since = {}, {}, {}

  -- Ids rise with the time, as those of other streams do: a server that has lost its last writes
  -- would give the receipts of those who still run to others.
  local function add_entry(id, envelope, is_first)
    if is_first then
      local time = redis.call('TIME')
      local serial = string.format('1-%.0f', time[1] * 1000000 + time[2])
      -- rule:34 a receipt is given once, also by a server that has lost its last writes
      local entry = redis.pcall('XADD', GATED, serial, id, envelope)
      -- The clock was set back, or it stands still.
      if type(entry) == 'string' then return entry end
    end
    return redis.call('XADD', GATED, '1-*', id, envelope)
  end

  local function give()
    local first = #entries + 1
    local fresh, index, permits, ids = {}, {}, {}, {}
    for position = first, #picks do
      local member, id, stored, lane = unpack(picks[position])
      local envelope = string.sub(stored, 2)
      local entry = add_entry(id, envelope, position == first)
      fresh[#fresh + 1] = entry
      ids[#ids + 1] = id
      entries[position] = {entry, {id, envelope}}
      priorities[position] = tonumber(string.sub(stored, 1, 1)) or 2
      since[position] = tonumber(string.sub(member, #lane.name + 18, #lane.name + 30)) or 0
      index[#index + 1] = id
      index[#index + 1] = '4:' .. entry
      for place = 1, #lane.uses do
        local text = lane.uses[place].text
        if string.sub(text, 1, 1) == 'c' then
          permits[#permits + 1] = 0
          permits[#permits + 1] = text .. '\0' .. entry .. '\0' .. id
        end
      end
    end
    if #fresh == 0 then return end
    for start = 1, #fresh, CHUNK do
      local order = {'XCLAIM', GATED, GROUP, lease, 0,
        unpack(fresh, start, math.min(start + CHUNK - 1, #fresh))}
      order[#order + 1] = 'FORCE'
      order[#order + 1] = 'JUSTID'
      redis.call(unpack(order))
    end
    in_chunks('HSET', INDEX, index)
    -- rule:34 a job that is taken holds its permits
    in_chunks('ZADD', PERMITS, permits)
    in_chunks('HDEL', DATA, ids)
    in_chunks('ZREM', base .. 'gated:since', ids)
    local members = {}
    for position = first, #picks do members[#members + 1] = picks[position][1] end
    in_chunks('ZREM', LANES, members)
    rooms.write()
  end

  local low = string.format('%.0f', class * gates.CLASS)
  local high = '(' .. string.format('%.0f', (class + 1) * gates.CLASS)
  -- An exchange looks at a bounded number of lanes.
  while want > 0 and bytes < most_bytes and tried < MOST_LANES and aside < MOST_MOVED do
    local names = redis.call('ZRANGE', base .. 'turns', low, high, 'BYSCORE', 'LIMIT', 0,
      math.min(want, 250))
    if #names == 0 then break end
    tried = tried + #names
    at_once = math.min(portion(math.ceil(want / #names)), 100)
    local open, seen = {}, {}
    for position = 1, #names do
      local lane = gates.lane(names[position])
      lane.got, lane.items, lane.after = 0, nil, nil
      open[position] = lane
    end
    go_round(open, seen)
    give()
    local latest = 0
    for position = 1, #names do
      local lane = gates.lane(names[position])
      if lane.got > 0 then latest = math.max(latest, lane.turn) end
    end
    gates.served(class, latest)
    for position = 1, #names do
      local lane = gates.lane(names[position])
      if seen[lane] then
        if lane.got > 0 then
          -- rule:34 lanes take turns, each with its share
          lane.turn = lane.turn + math.ceil(lane.got * TURN / lane.share)
        end
        -- Now, and not when its turn comes: a lane that stays in line calls a worker.
        gates.review(lane, lane.items and lane.items[lane.position] and class)
      end
    end
  end
  local crashes
  if class > 3 and #entries > 0 then
    local fields = {}
    for position = 1, #entries do fields[position] = 'g:' .. entries[position][2][1] end
    crashes = redis.call('HMGET', CRASHES, unpack(fields))
  end
  return {entries, priorities, since, crashes}, aside, bytes
end
