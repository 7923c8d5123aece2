-- What several scripts do about a queue that is paused, or some of its job functions. It stands
-- behind ended.lua; shared.lua says how scripts get what they use.
-- `paused` has a field for each paused function, by its name, and '' for the whole queue. A value
-- is 'p<since ms> <info>'; 'r' in front says that the function is resumed, and that some of its
-- jobs are still set aside.
-- Ready jobs of a paused function are set aside when an exchange meets them: they are pending under
-- a reserved consumer that nobody walks. It begins like those of jobs that were given back, so they
-- count as ready. They keep their entries, so their order.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.
local PAUSED = QUEUE['paused']
local ASIDE = RETURNED_CONSUMER .. '/'
-- Brings back up to `limit` jobs of a function that is resumed, each to its place among those that
-- were given back: it is older than all that were never taken. Returns how many, and whether all
-- are back. Then the function is paused no more.
local function bring_back(name, limit)
  local moved, is_all = return_pending(ASIDE .. name, limit, false)
  local gates = is_all and gates_here(store_now())
  if gates then
    local more
    more, is_all = gates.bring_back(name, limit - moved)
    moved = moved + more
  end
  -- Not before: until all are back, new jobs of the function are set aside behind them.
  -- rule:18 a function that is resumed keeps its order
  if is_all then redis.call('HDEL', PAUSED, name) end
  return moved, is_all
end

-- Whether the whole queue is paused, and the first letter of each paused function's value by its
-- name; nil without any. Goes on with those that are resumed: whoever began may be gone.
local function read_paused()
  local found, functions, is_paused = redis.call('HGETALL', PAUSED), nil, false
  local limit = MOST_MOVED
  for position = 1, #found, 2 do
    local name, phase = found[position], string.sub(found[position + 1], 1, 1)
    if name == '' then
      is_paused = true
    else
      local is_back = false
      if phase == 'r' and limit > 0 then
        local moved
        moved, is_back = bring_back(name, limit)
        limit = limit - moved
      end
      if not is_back then
        functions = functions or {}
        functions[name] = phase
      end
    end
  end
  return is_paused, functions
end

-- Whether an idle worker may find work here: not while the whole queue is paused.
local function may_hand_out()
  return redis.pcall('HEXISTS', PAUSED, '') ~= 1
end

-- Whether jobs of a function that is resumed are still set aside.
local function is_resuming()
  local found = redis.pcall('HGETALL', PAUSED)
  for position = 2, #found, 2 do
    if string.sub(found[position], 1, 1) == 'r' then return true end
  end
  return false
end

-- Sets aside those of `entries` whose function is paused; they were read and are pending.
-- `is_fresh`: nobody had them before. Returns the others, how many were set aside, and their bytes.
local function set_aside(slot, entries, functions, is_fresh)
  local others, orders, number, bytes = {}, {}, 0, 0
  for position = 1, #entries do
    local entry, envelope = entries[position][1], entries[position][2][2]
    local name = function_in(envelope)
    local phase = name and name ~= '' and functions[name]
    -- What comes back of a function that is resumed passes. New jobs wait until all are back.
    if phase and (is_fresh or phase ~= 'r') then
      orders[name] = orders[name] or {'XCLAIM', READY[slot], GROUP, ASIDE .. name, 0}
      table.insert(orders[name], entry)
      number, bytes = number + 1, bytes + #envelope
    else
      others[#others + 1] = entries[position]
    end
  end
  for _, order in pairs(orders) do
    order[#order + 1] = 'JUSTID'
    redis.call(unpack(order))
  end
  return others, number, bytes
end
