-- How jobs that a lease held come back to the queue, in their places. It stands behind shared.lua and
-- gates.lua; shared.lua says how scripts get what they use.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- Moves entries of one priority to the reserved consumers. That keeps their ids and their order.
-- Each goes to the one for its crashes, so that taking some never walks past the others.
local function give_back(slot, entries, count_crash)
  if slot == 5 then
    -- Its stream keeps none that nobody holds.
    gates_anyway(store_now()).give_back(entries, count_crash)
    return
  end
  local crashes = {}
  if count_crash then
    for position = 1, #entries do crashes[position] = charge((slot - 1) .. ':' .. entries[position]) end
  elseif redis.call('EXISTS', CRASHES) == 1 then
    local fields = {}
    for position = 1, #entries do fields[position] = (slot - 1) .. ':' .. entries[position] end
    -- rule:7 a suspect that is given back stays one
    crashes = redis.call('HMGET', CRASHES, unpack(fields))
  end
  local orders = {}
  for position = 1, #entries do
    -- rule:7 suspects wait apart, by their crashes
    local number = crashes_of(crashes[position])
    local place = number == 0 and tostring(slot) or slot .. ':' .. number
    orders[place] = orders[place] or {'XCLAIM', READY[slot], GROUP, consumer_at(place), 0}
    table.insert(orders[place], entries[position])
  end
  for place, order in pairs(orders) do
    -- rule:3 what is given back is given back by JUSTID
    order[#order + 1] = 'JUSTID'
    -- Before they move: a place that nobody knows would keep them for ever, and one with
    -- nothing in it is forgotten by whoever looks.
    redis.call('SADD', RETURNED, place)
    redis.call(unpack(order))
  end
end

-- Raises an error where entries cannot be given back. That comes before a crash is counted: a call
-- that fails is made again, and would count it again.
local function check_returns()
  redis.call('SISMEMBER', RETURNED, '')
  for slot = 1, 5 do
    -- rule:3 a lease is not forgotten while what it holds cannot be looked at
    redis.call('XLEN', READY[slot])
  end
end

-- Gives back up to `limit` pending entries of `consumer`. Returns how many, and whether that
-- was all.
local function return_pending(consumer, limit, count_crash)
  check_returns()
  local moved = 0
  for slot = 1, 5 do
    if redis.call('EXISTS', READY[slot]) == 1 then
      -- rule:3 reclaim is bounded
      while moved < limit do
        local step = math.min(100, limit - moved)
        local pending = redis.pcall('XPENDING', READY[slot], GROUP, '-', '+', step, consumer)
        if pending.err or #pending == 0 then break end
        local entries = {}
        for position = 1, #pending do entries[position] = pending[position][1] end
        give_back(slot, entries, count_crash)
        moved = moved + #entries
        if #pending < step then break end
      end
    end
  end
  -- rule:1 jobs given back push a token
  if moved > 0 then wake() end
  -- rule:3 a consumer goes only with nothing pending
  if moved >= limit then return moved, false end
  -- Nothing is pending any more. Only now the consumer may go, or its entries would be unreadable
  -- for ever.
  for slot = 1, 5 do
    if redis.call('EXISTS', READY[slot]) == 1 then
      redis.pcall('XGROUP', 'DELCONSUMER', READY[slot], GROUP, consumer)
    end
  end
  return moved, true
end
