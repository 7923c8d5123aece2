-- What becomes of a job that comes to its gate for the first time and does not just wait there. It
-- stands behind lanes.lua; see gates.lua. As many jobs as a limit has permits may run or wait under
-- one key: who waits for a worker only counts, too, or a burst would pass before one is free.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

local GATED = READY[5]

-- `is_refused(id, ended)`: whether it has to end at once. It may end another one in place of itself:
-- `ended` gets the id and what was stored of that one. The caller ends both.
local function add_newcomers(gates)
  local base, rooms = gates.base, gates.rooms
  local LANES, PERMITS = base .. 'lanes', base .. 'permits'

  -- How many jobs wait under the key of this use; no more than `most` are counted.
  local function waiting(text, most)
    local number = 0
    -- A lane is there while a job waits in it, so as many lanes are enough.
    for _, lane in ipairs(gates.lanes_of(text, math.min(math.max(most, 0), 1000))) do
      -- rule:34 who waits takes up room for a job that does not
      number = number + gates.waiting(lane.name)
    end
    return number
  end

  -- How many jobs with a permit of this key were asked to stop, and of all others the one that has
  -- its permit longest: its id and the lease that holds it.
  local function running(use)
    local first, last = '[' .. use.text .. '\0', '(' .. use.text .. '\0~'
    local has_asked, asked, oldest, holder = redis.call('EXISTS', CANCEL) == 1, 0, nil, nil
    for _ = 1, 10 do
      local found = redis.call('ZRANGE', PERMITS, first, last, 'BYLEX', 'LIMIT', 0, 100)
      for _, member in ipairs(found) do
        local entry, id = string.match(member, '^(1%-%d+)%z(.*)$', #use.text + 2)
        if has_asked and id and redis.call('HEXISTS', CANCEL, id) == 1 then
          asked = asked + 1
        elseif entry and not oldest then
          local held = redis.call('XPENDING', GATED, GROUP, entry, entry, 1)[1]
          if held then oldest, holder = id, held[2] end
        end
      end
      if #found < 100 or oldest and not has_asked then break end
      first = '(' .. found[100]
    end
    return asked, oldest, holder
  end

  -- Takes out the job that waits longest under the key of this use.
  local function displace(text, ended)
    local serial, id
    for _, lane in ipairs(gates.lanes_of(text, 100)) do
      for class = 0, 3 do
        local from = lane.name .. '\0'
        local member = redis.call('ZRANGE', LANES, '[' .. from .. class, '(' .. from .. class + 1,
          'BYLEX', 'LIMIT', 0, 1)[1]
        local own = member and string.sub(member, #from + 2, #from + 16)
        if own and (not serial or own < serial) then
          serial, id = own, string.sub(member, #from + 30)
        end
      end
    end
    if not id then return end
    ended[#ended + 1] = id
    ended[#ended + 1] = gates.take_out(id)
    redis.call('HDEL', INDEX, id)
  end

  -- Lets the oldest job under a key make room for a newer one.
  local function make_room(use, ended)
    local asked, oldest, holder = running(use)
    local staying = rooms.taken(use) - asked
    if staying + waiting(use.text, use.number - staying) < use.number then return end
    if oldest then
      -- rule:34 the job that runs longest makes room, and each is asked once
      mark(oldest, holder)
      redis.call('PUBLISH', base .. 'control', holder .. ' ' .. oldest)
    else
      -- rule:34 of jobs that wait the newest ones stay
      displace(use.text, ended)
    end
  end

  function gates.is_refused(id, ended)
    local of = gates.of(id)
    if not of or of.when == 'w' then return false end
    local when = of.when
    for _, each in ipairs(gates.lane(of.lane).uses) do
      local use = rooms.use(each.text)
      if use.kind == 'c' and use.number < math.huge then
        if when == 'c' then
          make_room(use, ended)
        else
          local taken = rooms.taken(use)
          -- rule:34 a job that does not wait ends at once where there is no room
          if taken + waiting(use.text, use.number - taken) >= use.number then return true end
        end
      end
    end
    return false
  end
end
