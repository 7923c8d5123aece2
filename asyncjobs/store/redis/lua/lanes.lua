-- The lanes in which jobs with a gate wait, and where each of them stands. It stands behind
-- shared.lua and rooms.lua; gates.lua says what lanes are, and which keys there are.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- `lane(name)`: a lane and where it stands. `review(lane)`: its jobs or its room have changed.
-- `place(lane, class)`: finds out where one has to stand whose first job is of this class.
-- `rise(lane, class)`: its first job is another one now. `obstacle(lane)`: what keeps its jobs.
-- `let_in(use, number)`: so many permits are free. `served(class, turn)`: a lane had its turn.
-- `is_ready`, `is_earlier`: whether a lane came into line, or is put off until before all others.
local function open_lanes(now)
  local base, rooms = string.sub(WAKE, 1, -5), open_rooms(now)
  local LANES, TURNS, BARRED = base .. 'lanes', base .. 'turns', base .. 'barred'
  local LATER, STANDING, LANES_OF = base .. 'later', base .. 'standing', base .. 'lanes:of'
  -- How many lanes one call lets in; how many are tried for a permit.
  local MOST_LANES, MOST_TRIED = 1000, 100
  -- How far the turns of two classes are apart.
  local CLASS = 4e14
  local gates, lanes, clocks = {rooms = rooms, base = base, CLASS = CLASS}, {}, {}
  gates.is_ready, gates.is_earlier = false, false
  local uses_of = {}

  -- The uses of a lane: their texts and tokens. Nil for what is none.
  function gates.read_uses(lane)
    if uses_of[lane] then return uses_of[lane] end
    local from = string.match(lane, '^!%d%d()') or 1
    local size, at = string.match(lane, '^(%d+):()', from)
    if not size then return nil end
    local number, uses = nil, {}
    number, at = string.match(lane, '^(%d+):()', at + tonumber(size))
    if not number then return nil end
    for place = 1, tonumber(number) do
      local begin, kind, tokens = at, nil, nil
      kind, size, at = string.match(lane, '^([cr])(%d+):()', at)
      if not size then return nil end
      local limit = string.sub(lane, at, at + tonumber(size) - 1)
      size, at = string.match(lane, '^(%d+):()', at + #limit)
      if not size then return nil end
      local key = string.sub(lane, at, at + tonumber(size) - 1)
      at = at + #key
      tokens, at = string.match(lane, '^(%d+);()', at)
      if not tokens then return nil end
      local text = string.sub(lane, begin, at - #tokens - 2)
      rooms.name(text, kind, limit, key)
      uses[place] = {text = text, kind = kind, tokens = math.max(tonumber(tokens), 1)}
    end
    uses_of[lane] = uses
    return uses
  end

  local function from(lane) return '[' .. lane .. '\0' end
  local function to(lane) return '(' .. lane .. '\1' end

  -- A lane and where it stands: `where` is nil when no job waits in it.
  function gates.lane(name)
    local lane = lanes[name]
    if lane then return lane end
    lane = {name = name, uses = gates.read_uses(name) or {}, share = 1, turn = 0,
      ticket = 0}
    local crashes = string.match(name, '^!(%d%d)')
    if crashes then lane.crashes, lane.fixed = tonumber(crashes), 3 + tonumber(crashes) end
    local where, share, turn, class, ticket, about = string.match(
      redis.call('HGET', STANDING, name) or '', '^([tbl])(%d+) (%d+) (%d+) (%d+) (.*)$')
    if where then
      lane.ticket = tonumber(ticket)
      lane.where, lane.about, lane.class = where, about, tonumber(class)
      lane.share, lane.turn = math.max(tonumber(share), 1), tonumber(turn)
    end
    lanes[name] = lane
    return lane
  end

  function gates.waiting(lane) return redis.call('ZLEXCOUNT', LANES, from(lane), to(lane)) end

  -- The turn up to which a class was served.
  local function clock(class)
    if not clocks[class] then
      clocks[class] = tonumber(redis.call('HGET', STANDING, 'v' .. class) or '') or 0
    end
    return clocks[class]
  end

  function gates.served(class, turn)
    if turn <= clock(class) then return end
    clocks[class] = turn
    redis.call('HSET', STANDING, 'v' .. class, string.format('%.0f', turn))
  end

  local function barred_as(lane)
    -- Turns of two classes are times by two clocks, which say nothing of each other.
    -- rule:34 of the lanes at a limit the most urgent one is let in first
    -- Suspects come first, as they do when jobs are taken.
    local turn = lane.fixed and 0 or lane.class * CLASS + lane.turn
    return string.format('%s\0%016.0f%012.0f\0%s', lane.about, turn, lane.ticket, lane.name)
  end

  local function write(lane)
    redis.call('HSET', STANDING, lane.name, string.format('%s%.0f %.0f %.0f %.0f %s', lane.where,
      lane.share, lane.turn, lane.class, lane.ticket, lane.about))
  end

  -- Takes a lane from where it stands.
  local function lift(lane)
    if lane.where == 't' then
      redis.call('ZREM', TURNS, lane.name)
    elseif lane.where == 'b' then
      redis.call('ZREM', BARRED, barred_as(lane))
    elseif lane.where == 'l' then
      redis.call('ZREM', LATER, lane.name)
    else
      for position = 1, #lane.uses do
        redis.call('ZADD', LANES_OF, 0, lane.uses[position].text .. '\0' .. lane.name)
      end
    end
  end

  -- A lane stands in one place.
  local function stand(lane, class, where, about, ms)
    if lane.where ~= where or where == 'b' then lift(lane) end
    -- A lane that was away for long asks for no more than one that was not.
    -- It does not overtake those that waited.
    local behind = lane.class and math.max(lane.turn - clock(lane.class), 0) or 0
    if lane.class ~= class or not lane.where then
      lane.turn = clock(class) + behind
    else
      lane.turn = math.max(lane.turn, clock(class))
    end
    lane.where, lane.class, lane.about = where, class, about
    if where == 't' then
      redis.call('ZADD', TURNS, string.format('%.0f', class * CLASS + lane.turn), lane.name)
    elseif where == 'b' then
      -- Of lanes with the same turn the one that came first is let in first.
      lane.ticket = redis.call('HINCRBY', STANDING, 'k', 1)
      redis.call('ZADD', BARRED, 0, barred_as(lane))
    else
      redis.call('ZADD', LATER, string.format('%.0f', ms), lane.name)
    end
    write(lane)
  end

  -- The newest job of a lane says its share.
  function gates.set_share(lane, share)
    if lane.share == share then return end
    lane.share = share
    if lane.where then write(lane) end
  end

  -- What keeps the jobs of a lane: 't' nothing, 'b' a limit without a permit, 'l' a key that is not
  -- open yet, and until when.
  function gates.obstacle(lane)
    local about, ms = '', nil
    for position = 1, #lane.uses do
      local use, tokens = rooms.use(lane.uses[position].text), lane.uses[position].tokens
      if rooms.room(use, tokens) < 1 then
        if use.kind == 'c' and not use.closed then return 'b', use.text end
        local opens = rooms.opens(use, tokens)
        if not ms or opens > ms then about, ms = use.text, opens end
      end
    end
    return ms and 'l' or 't', about, ms
  end

  -- The use that the jobs of a lane are held by, or nil: the one that it stands at while that has no
  -- room, else the first one.
  function gates.held_at(lane)
    for position = 1, #lane.uses do
      local each = lane.uses[position]
      if lane.where ~= 't' and each.text == lane.about then
        if rooms.room(rooms.use(each.text), each.tokens) < 1 then return lane.about end
      end
    end
    local where, about = gates.obstacle(lane)
    return where ~= 't' and about or nil
  end

  function gates.place(lane, class)
    local where, about, ms = gates.obstacle(lane)
    if where == 'l' then
      local first = redis.call('ZRANGE', LATER, 0, 0, 'WITHSCORES')[2]
      -- A lane that is put off until before all others signals.
      if ms < (tonumber(first or '') or math.huge) then gates.is_earlier = true end
    elseif where == 't' then
      gates.is_ready = true
    end
    stand(lane, class, where, about, ms)
  end

  function gates.rise(lane, class)
    if lane.where ~= 't' then return end
    stand(lane, class, 't', '')
    gates.is_ready = true
  end

  -- The class of the first job in a lane, or nil.
  local function first_class(lane)
    local first = redis.call('ZRANGE', LANES, from(lane.name), to(lane.name), 'BYLEX', 'LIMIT', 0, 1)
    if not first[1] then return nil end
    return lane.fixed or tonumber(string.sub(first[1], #lane.name + 2, #lane.name + 2)) or 2
  end

  -- Lets up to `number` lanes that are barred at a use come into line.
  function gates.let_in(text, number)
    local use, tried = rooms.use(text), 0
    number = math.min(number, MOST_LANES)
    while number > 0 and rooms.room(use, 1) > 0 do
      local first = redis.call('ZRANGE', BARRED, from(text), to(text), 'BYLEX', 'LIMIT', 0, 1)[1]
      if not first then return end
      local lane = gates.lane(string.sub(first, #text + 31))
      local class = lane.where == 'b' and lane.about == text and first_class(lane)
      tried = tried + 1
      if not class then
        redis.call('ZREM', BARRED, first)
      elseif tried > MOST_TRIED then
        -- An exchange looks at it, and goes on from there.
        -- Many lanes that another limit holds back do not stop those behind them.
        stand(lane, class, 't', '')
        gates.is_ready = true
        return
      else
        gates.place(lane, class)
        -- One of suspects may find no worker with room for them, and must not keep the permit.
        if lane.where == 't' and not lane.fixed then number = number - 1 end
      end
    end
  end

  -- A lane is not in line any more. It may have been let in for a permit that it did not use.
  -- rule:34 a lane that cannot use a permit lets in the next one
  function gates.pass_on(lane)
    for position = 1, #lane.uses do
      local text = lane.uses[position].text
      if string.sub(text, 1, 1) == 'c' and lane.about ~= text then gates.let_in(text, 1) end
    end
  end

  -- Looks again at a lane whose jobs or whose room have changed. `class`: that of its first job, if
  -- it is known.
  function gates.review(lane, class)
    local was_in_line = lane.where == 't'
    class = class or first_class(lane)
    if class then
      gates.place(lane, class)
    elseif lane.where then
      lift(lane)
      redis.call('HDEL', STANDING, lane.name)
      for position = 1, #lane.uses do
        redis.call('ZREM', LANES_OF, lane.uses[position].text .. '\0' .. lane.name)
      end
      lane.where, lane.about = nil, nil
    end
    if was_in_line and lane.where ~= 't' then gates.pass_on(lane) end
  end

  return gates
end
