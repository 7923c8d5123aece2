-- What people and upkeep ask about jobs with a gate. It stands behind gates.lua.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- How many jobs wait because of a use, and since when the oldest of them does.
local function waiting_at(gates, text, most)
  local number, oldest = 0, nil
  for _, lane in ipairs(gates.lanes_of(text, most)) do
    if gates.held_at(lane) == text then
      number = number + gates.waiting(lane.name)
      -- Of each priority the first one is the oldest.
      for priority = 0, 3 do
        local first = redis.call('ZRANGE', gates.base .. 'lanes', '[' .. lane.name .. '\0' .. priority,
          '(' .. lane.name .. '\0' .. (priority + 1), 'BYLEX', 'LIMIT', 0, 1)[1]
        local ms = first and tonumber(string.sub(first, #lane.name + 18, #lane.name + 30))
        if ms and (not oldest or ms < oldest) then oldest = ms end
      end
    end
  end
  return number, oldest
end

-- Adds the jobs of lanes in line to those that are ready, by priority. Returns how many others
-- wait. Of very many lanes the jobs are not told apart: most of them have no room.
local function count_gated(gates, ready)
  local lanes = gates.base .. 'lanes'
  local number, MOST = redis.call('HLEN', gates.base .. 'gated:data'), 2000
  for _, name in ipairs(redis.call('ZRANGE', gates.base .. 'turns', 0, MOST - 1)) do
    local waiting = gates.waiting(name)
    number = number - waiting
    for priority = 3, 0, -1 do
      if priority == 0 then
        ready[1] = ready[1] + waiting
      elseif waiting > 0 then
        local some = redis.call('ZLEXCOUNT', lanes, '[' .. name .. '\0' .. priority,
          '(' .. name .. '\0' .. (priority + 1))
        ready[priority + 1], waiting = ready[priority + 1] + some, waiting - some
      end
    end
  end
  local aside = redis.call('ZLEXCOUNT', lanes, '[@', '(A')
  ready[3] = ready[3] + aside
  return math.max(number - aside, 0)
end

-- Drops what is paid for of keys that nobody starts any more, and rules that code has said for keys
-- that nobody uses.
local function prune_limits(gates, now, limit)
  local base, rooms = gates.base, gates.rooms
  local paid = redis.call('ZRANGE', base .. 'rates', '-inf', string.format('%.0f', now), 'BYSCORE',
    'WITHSCORES', 'LIMIT', 0, limit)
  for position = 1, #paid, 2 do
    local use = rooms.use(paid[position])
    -- A start of many tokens asks for how long nobody has passed.
    if tonumber(paid[position + 1]) + use.period <= now then
      redis.call('ZREM', base .. 'rates', paid[position])
    end
  end
  local sample = redis.call('HRANDFIELD', base .. 'limits', math.min(limit, 100))
  for _, field in ipairs(sample) do
    local size, at = string.match(field, '^k(%d+):()')
    if size then
      local limit_name = string.sub(field, at, at + tonumber(size) - 1)
      local key = string.sub(field, at + tonumber(size) + 1)
      local is_used = false
      for _, kind in ipairs({'c', 'r'}) do
        local text = kind .. #limit_name .. ':' .. limit_name .. #key .. ':' .. key
        local use = rooms.use(text)
        is_used = is_used or use.closed or kind == 'c' and rooms.taken(use) > 0 or #gates.lanes_of(text, 1) > 0
          or redis.call('ZSCORE', base .. 'rates', text)
      end
      if not is_used then redis.call('HDEL', base .. 'limits', field) end
    end
  end
end
