-- Jobs with a gate: those that wait for limits, or for their turn. It stands behind
-- shared.lua, rooms.lua and lanes.lua. Jobs with the same uses and the same turn wait in one lane, by their priority and then
-- as they came. A lane stands in one place: in line, barred at a limit that has no permit left, or
-- put off until a key is open. So what cannot go on is on nobody's way.
--   gated          a stream with the jobs that were taken, for its pending list alone: leases hold
--                  them as they do others. Its ids begin with '1-', those of no other stream do
--   gated:of       id -> '<stay><when full><share> <lane>'. The stay is a letter, the priority, a
--                  serial and since when it waits: 'l' in a lane, 'a' set aside, 'b' brought back,
--                  '-' not in a lane yet
--   gated:own      id -> the gate of those with rules of their keys alone
--   gated:data     id -> '<priority><envelope>' of those that wait; gated:since  id -> since when
--   lanes          '<lane><0><stay without its letter><id>' of them, in the order of their bytes
--   turns          lane -> its class and its turn: the lane with the lowest one is served first
--   barred         '<use><0><turn and ticket><0><lane>', in the order of their bytes
--   later          lane -> ms
--   standing       lane -> '<t, b or l><share> <turn> <class> <ticket> <use>'; 'v<class>' the turn up
--                  to which a class was served; 'n' and 'k' the last serial and the last ticket;
--                  'o<class>' who was given the odd one; 'seen' the time
--   lanes:of       '<use><0><lane>' of all lanes, in the order of their bytes
-- A lane is '<length>:<turn><number>:' and its uses, each '<use><tokens>;'. No lane is the start of
-- another one. Suspects wait in lanes of their own, with '!<crashes>' in front, and jobs of paused
-- functions stand at '@<length>:<function>'. A class is a priority, or 3 and the crashes of suspects.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.
-- nil: nobody has asked; false: no job of this queue has a gate.
local GATES

-- `check()`: raises an error where a key has a wrong type. That comes before the first write.
-- `note(id, gate, is_ready)`: this new job has this gate; `is_ready`: and enters its lane at once. `enter(id, priority, envelope)`: it waits in its lane
--   from now on; false for a job without a gate. `is_refused(id, ended)`: see newcomers.lua.
-- `leave(ids, entries)`: these run no longer. `forget(ids)`: they have ended.
-- `give_back(entries, count_crash)`: they go back to the head of their lanes.
-- `take_out(id)`: takes a job out of its lane; what it was stored as.
-- `open(due)`: what is due by now; when something is due next, that or `due`.
-- `in_line(class)`: whether a lane of it is in line. gates_take.lua hands their jobs out.
-- `tidy()`: the last one leaves nothing behind.
-- `is_ready`, `is_earlier`: whether a lane came into line, or is put off until before all others.
local function open_gates(now)
  local gates = open_lanes(now)
  local base, rooms, ofs = gates.base, gates.rooms, {}
  add_gate_times(gates, now)
  add_newcomers(gates)
  local LANES, TURNS, BARRED = base .. 'lanes', base .. 'turns', base .. 'barred'
  local LATER, STANDING, LANES_OF = base .. 'later', base .. 'standing', base .. 'lanes:of'
  local OF, DATA, SINCE = base .. 'gated:of', base .. 'gated:data', base .. 'gated:since'
  local OWN = base .. 'gated:own'

  function gates.check()
    redis.call('XLEN', GATED)
    for _, key in ipairs({LANES, TURNS, BARRED, LATER, LANES_OF, SINCE}) do
      -- Nothing is settled or stored where a job could not go back to its lane.
      redis.call('ZCARD', key)
    end
    for _, key in ipairs({STANDING, OF, DATA, OWN}) do redis.call('HEXISTS', key, '') end
    rooms.check()
  end

  local function from(name) return '[' .. name .. '\0' end

  local has_stream, parsed, serial, last_serial = false, {}, 0, 0
  local keeps_own = redis.call('EXISTS', OWN) == 1

  -- The lane in a gate and its parts, or nil: '<when full><share> <length>:<lane><rules>', each rule
  -- '<k of the key alone, or c><rule>;'.
  function gates.read_gate(text)
    if parsed[text] then return parsed[text] end
    local when, share, size, at = string.match(text, '^([wcn])(%d+) (%d+):()')
    if not when or tonumber(share) < 1 then return nil end
    local rules, from, has_own = {}, at + tonumber(size), false
    for own, rule in string.gmatch(string.sub(text, from), '([kc])([cr]%d+ %d+ %d+);') do
      rules[#rules + 1] = {own == 'k', rule}
      has_own = has_own or own == 'k'
    end
    local lane = string.sub(text, at, from - 1)
    local uses = gates.read_uses(lane)
    if not uses or #uses ~= #rules then return nil end
    parsed[text] = {when = when, share = tonumber(share), lane = lane, rules = rules,
      rest = when .. share .. ' ' .. lane, has_own = has_own}
    return parsed[text]
  end

  local has_crashes = redis.call('EXISTS', CRASHES) == 1
  local NO_STAY = '-' .. string.rep('0', 29)

  -- The lanes of a use, at most so many.
  function gates.lanes_of(text, most)
    local found = redis.call('ZRANGE', LANES_OF, from(text), '(' .. text .. '\1', 'BYLEX', 'LIMIT', 0,
      most)
    for position = 1, #found do found[position] = gates.lane(string.sub(found[position], #text + 2)) end
    return found
  end

  -- The key of a use is open or closed now, or its rule has changed.
  function gates.review_use(text)
    local use = rooms.use(text)
    for _, lane in ipairs(gates.lanes_of(text, 1000)) do
      -- Also one that is barred: a key that is closed opens by time, and gives no permit back then.
      if lane.where then gates.review(lane) end
    end
    -- As many lanes as there is room for come into line.
    if use.kind == 'c' then gates.let_in(text, rooms.room(use, 1)) end
  end

  -- The rule of a use has changed.
  function gates.change_rule(text)
    -- What another rule has forgiven stays forgiven.
    rooms.forgive(text)
    gates.review_use(text)
  end

  -- Notes the rules that code says with a gate.
  function gates.note_rules(gate)
    local uses = gates.lane(gate.lane).uses
    for position = 1, #uses do
      local rule = gate.rules[position]
      if rooms.note(uses[position].text, rule[1], rule[2]) then
        gates.change_rule(uses[position].text)
      end
    end
  end

  -- Says rules again that keys of this job have of their own, and that upkeep has dropped: nobody
  -- waited at them or ran, and this job lived all the same.
  local function note_again(id)
    local text = keeps_own and redis.call('HGET', OWN, id)
    local gate = text and gates.read_gate(text)
    local uses = gate and gates.lane(gate.lane).uses or {}
    for position = 1, #uses do
      local is_own, rule = unpack(gate.rules[position])
      -- An older job brings no older rule.
      -- rule:34 a rule of a key is known as long as one of its jobs lives
      if is_own and not rooms.use(uses[position].text).found[3] then
        rooms.note(uses[position].text, true, rule)
        gates.change_rule(uses[position].text)
      end
    end
  end

  function gates.note(id, text, is_ready)
    local gate = gates.read_gate(text)
    local rest = gate.rest
    gates.note_rules(gate)
    if not has_stream and redis.call('EXISTS', GATED) == 0 then
      create_group(GATED)
      -- No id is used twice, also when the stream is dropped and made again in between: a receipt
      -- names one taking.
      -- A receipt names one taking for ever.
      local time = redis.call('TIME')
      local first = string.format('1-%.0f', time[1] * 1000000 + time[2])
      redis.call('XADD', GATED, first, '', '')
      redis.call('XDEL', GATED, first)
    end
    has_stream = true
    -- One that is ready is written when it enters its lane.
    if not is_ready then redis.call('HSET', OF, id, NO_STAY .. rest) end
    if gate.has_own then
      redis.call('HSET', OWN, id, text)
      keeps_own = true
    end
    ofs[id] = {letter = '-', stay = string.sub(NO_STAY, 2), rest = rest, lane = gate.lane,
      when = gate.when, share = gate.share}
  end

  -- What is known of the gate of a job, or nil.
  function gates.of(id)
    local of = ofs[id]
    if of ~= nil then return of end
    local stored = redis.call('HGET', OF, id)
    local when, share, lane = string.match(stored or '', '^([wcn])(%d+) (.*)$', 31)
    of = when and {letter = string.sub(stored, 1, 1), stay = string.sub(stored, 2, 30),
      rest = string.sub(stored, 31), when = when, share = tonumber(share), lane = lane} or false
    ofs[id] = of
    return of
  end

  local function write_of(id, of, letter, stay)
    of.letter, of.stay = letter, stay or of.stay
    redis.call('HSET', OF, id, letter .. of.stay .. of.rest)
  end

  -- The lane in which a job waits now.
  local function lane_of(id, of)
    local crashes = 0
    if has_crashes then crashes = crashes_of(redis.call('HGET', CRASHES, 'g:' .. id)) end
    -- Suspects wait apart, by their crashes, also at a gate.
    return crashes > 0 and string.format('!%02d%s', crashes, of.lane) or of.lane
  end

  -- The next serial. A script gets many of them at once, and leaves unused what it does not need.
  local function next_serial()
    if serial >= last_serial then
      last_serial = redis.call('HINCRBY', STANDING, 'n', 1000)
      serial = last_serial - 1000
    end
    serial = serial + 1
    return serial
  end

  -- `stay`: as it was before, for a job that goes back. Without: behind all others.
  function gates.enter(id, priority, envelope, stay)
    local of = gates.of(id)
    if not of then return false end
    note_again(id)
    if not stay then
      stay = string.format('%.0f%015.0f%013.0f', priority, next_serial(), now)
    end
    local lane = gates.lane(lane_of(id, of))
    redis.call('HSET', DATA, id, string.format('%.0f', priority) .. envelope)
    redis.call('ZADD', SINCE, string.sub(stay, 17), id)
    redis.call('ZADD', LANES, 0, lane.name .. '\0' .. stay .. id)
    -- One that was let in waits from now on, after a retry, too.
    of.when, of.rest = 'w', 'w' .. string.sub(of.rest, 2)
    write_of(id, of, 'l', stay)
    if #envelope > LARGE then note_large(#envelope, string.format('%.0f-0', store_now())) end
    gates.set_share(lane, of.share)
    if not lane.where then
      gates.place(lane, lane.fixed or priority)
    elseif not lane.fixed and priority < lane.class then
      -- A lane is as urgent as its first job.
      gates.rise(lane, priority)
    end
    return true
  end

  -- Nobody passes the keys of this job's gate until then.
  function gates.close(id, until_ms)
    local of = gates.of(id)
    for _, use in ipairs(of and gates.lane(of.lane).uses or {}) do
      gates.close_use(use.text, until_ms)
    end
  end

  function gates.close_use(text, until_ms)
    rooms.close(text, until_ms)
    gates.review_use(text)
  end

  -- These jobs run no longer: their permits come back.
  function gates.leave(ids, entries)
    local members, order = {}, {}
    for first = 1, #ids, CHUNK do
      local last = math.min(first + CHUNK - 1, #ids)
      local found = redis.call('HMGET', OF, unpack(ids, first, last))
      for offset = 1, #found do
        local place = first + offset - 1
        local name = string.match(found[offset] or '', '^[wcn]%d+ (.*)$', 31)
        local lane = name and gates.lane(name)
        for position = 1, lane and #lane.uses or 0 do
          local text = lane.uses[position].text
          if string.sub(text, 1, 1) == 'c' then
            if not members[text] then
              members[text] = {}
              order[#order + 1] = text
            end
            table.insert(members[text], text .. '\0' .. entries[place] .. '\0' .. ids[place])
          end
        end
      end
    end
    for _, text in ipairs(order) do
      local number = rooms.give_back(text, members[text])
      -- rule:34 a permit that comes back lets in a lane that is barred
      if number > 0 then gates.let_in(text, number) end
    end
  end

  function gates.forget(ids)
    in_chunks('HDEL', OF, ids)
    if keeps_own then in_chunks('HDEL', OWN, ids) end
    for position = 1, #ids do ofs[ids[position]] = nil end
  end

  -- These jobs are held by nobody any more. They go back to their places.
  function gates.give_back(entries, count_crash)
    for _, entry in ipairs(entries) do
      local found = redis.call('XRANGE', GATED, entry, entry)[1]
      local id = found and found[2][1] or ''
      if count_crash and found then
        charge('g:' .. id)
        has_crashes = true
      end
      redis.call('XACK', GATED, GROUP, entry)
      redis.call('XDEL', GATED, entry)
      local of = found and gates.of(id)
      if of then
        -- rule:34 a job that goes back has the place that it had
        gates.enter(id, tonumber(string.sub(of.stay, 1, 1)), found[2][2], of.stay)
        redis.call('HSET', INDEX, id, 'g')
        -- rule:34 a job that goes back holds no permit
        gates.leave({id}, {entry})
      end
    end
  end

  local function member_of(id, of)
    if of.letter == 'a' then
      local name = function_in(string.sub(redis.call('HGET', DATA, id) or '', 2)) or ''
      return '@' .. #name .. ':' .. name .. '\0' .. of.stay .. id
    end
    return lane_of(id, of) .. '\0' .. of.stay .. id
  end

  function gates.take_out(id)
    local of, stored = gates.of(id), redis.call('HGET', DATA, id)
    redis.call('HDEL', DATA, id)
    redis.call('ZREM', SINCE, id)
    if not of then return stored or '' end
    local lane = of.letter ~= 'a' and gates.lane(lane_of(id, of))
    redis.call('ZREM', LANES, member_of(id, of))
    redis.call('HDEL', CRASHES, 'g:' .. id)
    if lane then gates.review(lane) end
    return stored or ''
  end

  -- Brings jobs of a function back that stand aside, to the places that they had. Returns how many,
  -- and whether all are back.
  function gates.bring_back(name, limit)
    local place = '@' .. #name .. ':' .. name
    local members = {}
    if limit > 0 then
      members = redis.call('ZRANGE', LANES, from(place), '(' .. place .. '\1', 'BYLEX', 'LIMIT', 0,
        limit)
    end
    for position = 1, #members do
      local stay = string.sub(members[position], #place + 2, #place + 30)
      local id = string.sub(members[position], #place + 31)
      local stored = redis.call('HGET', DATA, id)
      redis.call('ZREM', LANES, members[position])
      if stored and gates.enter(id, priority_of(stored), string.sub(stored, 2), stay) then
        write_of(id, gates.of(id), 'b')
      end
    end
    return #members, limit > 0 and #members < limit
  end

  -- Gives a waiting job another call.
  function gates.change(id, stored) redis.call('HSET', DATA, id, stored) end

  -- How a waiting job stands: nil, or the use that it is held by.
  function gates.held_by(id)
    local of = gates.of(id)
    if not of or of.letter == 'a' then return nil end
    local about = gates.held_at(gates.lane(lane_of(id, of)))
    if not about then return nil end
    local use = rooms.use(about)
    -- A limit without keys has an empty one.
    return 'limit ' .. use.limit .. (use.key ~= '' and ' ' .. use.key or '')
  end

  -- The lowest class from `least` on that has a lane in line, or nil.
  function gates.first_in_line(least)
    local first = redis.call('ZRANGE', TURNS, string.format('%.0f', least * gates.CLASS), '+inf',
      'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]
    return first and math.floor(tonumber(first) / gates.CLASS)
  end

  -- Lanes from this class on stay in line, and are not served now.
  function gates.pass_by(class)
    local low = string.format('%.0f', class * gates.CLASS)
    for _, name in ipairs(redis.call('ZRANGE', TURNS, low, '+inf', 'BYSCORE', 'LIMIT', 0, 100)) do
      gates.pass_on(gates.lane(name))
    end
  end

  -- Which part of the jobs of a class is for lanes, where others without a gate wait, too.
  function gates.half(class, want)
    if want % 2 == 0 then return want / 2 end
    local turn = redis.call('HINCRBY', STANDING, 'o' .. class, 1) % 2
    -- Lanes and jobs without a gate have the odd one in turn.
    return (want - 1) / 2 + turn
  end

  function gates.tidy()
    -- rule:34 the last job with a gate leaves no key behind
    if redis.call('EXISTS', OF) == 1 then return end
    has_stream = false
    redis.call('UNLINK', GATED, LANES, TURNS, BARRED, LATER, STANDING, LANES_OF, DATA, SINCE,
      OWN)
  end

  return gates
end

-- The same, also for a queue that has none yet: its first one comes.
local function gates_anyway(now)
  if not GATES then GATES = open_gates(now) end
  return GATES
end

-- The gates of a queue, if any of its jobs has one.
local function gates_here(now)
  if GATES == nil then
    -- A queue without a gated job asks no more than that.
    GATES = redis.call('EXISTS', GATED) == 1 and open_gates(now)
  end
  return GATES
end

-- Drops the gates of jobs that have ended or were deleted while they waited. Their lanes may let in
-- others.
local function drop_gates(ids)
  local gates = gates_here(store_now())
  if not gates then return end
  gates.forget(ids)
  gates.tidy()
  -- A lane that comes into line signals.
  if gates.is_ready or gates.is_earlier then wake() end
end

-- Makes a job ready: one with a gate waits in its lane, any other one in its stream. Its place, or
-- the error, and then nothing is stored: the caller must leave the job where it is.
local function make_ready(priority, id, envelope, now)
  local gates = gates_here(now)
  -- rule:34 whatever makes a job ready sends one with a gate into its lane
  if gates and gates.enter(id, priority, envelope) then return 'g' end
  return append_ready(priority, id, envelope)
end
