-- What becomes of lanes and permits as time goes on. It stands behind lanes.lua; see gates.lua.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- `open(due)`: what is due by now; when something is due next, that or `due`.
-- `next_due(due)`: that alone. `drop_holders(limit)`, `drop_holder(holder)`: permits outside of jobs
-- are over, or are given back.
local function add_gate_times(gates, now)
  local base, rooms = gates.base, gates.rooms
  local LATER, STANDING, BARRED = base .. 'later', base .. 'standing', base .. 'barred'
  local HOLDERS, HOLDERS_OF = base .. 'holders', base .. 'holders:of'

  -- Looks again at lanes that wait for a time, the longest first: another time may hold now.
  function gates.look_again(limit)
    for _, name in ipairs(redis.call('ZRANGE', LATER, 0, limit - 1, 'REV')) do
      -- What is owed was bounded by what is now. It stays so when time goes on.
      for _, use in ipairs(gates.lane(name).uses) do rooms.keep(use.text) end
      -- After a step back of the clock no lane waits for as long as the step.
      if gates.lane(name).where == 'l' then gates.review(gates.lane(name)) end
    end
    rooms.write()
  end

  -- A step back of the clock: what was to be in a while is in a while from now.
  local function follow_clock()
    if redis.call('EXISTS', LATER, HOLDERS) == 0 then return end
    local seen = tonumber(redis.call('HGET', STANDING, 'seen') or '') or now
    if now < seen - STEP_MS then
      gates.look_again(1000)
      local held = redis.call('ZRANGE', HOLDERS, 0, 999, 'REV', 'WITHSCORES')
      for position = 1, #held, 2 do
        -- After a step back of the clock nobody keeps permits for as long as the step.
        redis.call('ZADD', HOLDERS, string.format('%.0f', held[position + 1] - seen + now),
          held[position])
      end
    end
    if math.abs(now - seen) > STEP_MS / 2 or seen == now then
      redis.call('HSET', STANDING, 'seen', string.format('%.0f', now))
    end
  end

  -- Drops permits of holders outside of jobs that are over.
  function gates.drop_holders(limit)
    follow_clock()
    local over = redis.call('ZRANGE', HOLDERS, '-inf', string.format('%.0f', now), 'BYSCORE',
      'LIMIT', 0, limit)
    for _, holder in ipairs(over) do gates.drop_holder(holder) end
    return #over
  end

  function gates.drop_holder(holder)
    local lane = redis.call('HGET', HOLDERS_OF, holder)
    redis.call('HDEL', HOLDERS_OF, holder)
    redis.call('ZREM', HOLDERS, holder)
    for _, each in ipairs(lane and gates.read_uses(lane) or {}) do
      if string.sub(each.text, 1, 1) == 'c' then
        local number = rooms.give_back(each.text, {each.text .. '\0~' .. holder})
        if number > 0 then gates.let_in(each.text, number) end
      end
    end
    -- Without jobs with a gate nothing else is left.
    if redis.call('EXISTS', HOLDERS) == 0 then gates.tidy() end
  end

  function gates.open(due)
    gates.drop_holders(100)
    local over = redis.call('ZRANGE', LATER, '-inf', string.format('%.0f', now), 'BYSCORE',
      'LIMIT', 0, 1000)
    for _, name in ipairs(over) do
      local lane = gates.lane(name)
      if lane.where == 'l' then gates.review(lane) else redis.call('ZREM', LATER, name) end
    end
    return gates.next_due(due)
  end

  function gates.next_due(due)
    local first = redis.call('ZRANGE', LATER, 0, 0, 'WITHSCORES')[2]
    if first and (not due or tonumber(first) < due) then due = tonumber(first) end
    -- Somebody outside of jobs may die with permits that lanes wait for.
    local holder = redis.call('ZRANGE', HOLDERS, 0, 0, 'WITHSCORES')[2]
    if holder and (not due or tonumber(holder) < due) and redis.call('EXISTS', BARRED) == 1 then
      due = tonumber(holder)
    end
    return due
  end
end
