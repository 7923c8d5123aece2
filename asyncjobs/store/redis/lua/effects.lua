-- The jobs that successes store, for exchange.lua. It stands behind shared.lua and ended.lua.
-- KEYS: those of shared.lua; behind all others the result key of each job whose id was given.
-- ARGV: from `begin` on for each job: the place of the settlement that stores it, then id,
--   priority, due and envelope as in enqueue.lua.
-- Result: none of its own.
local EFFECT = 5

-- Checks them before the first write. Returns them, or nil and the error to answer with. One
-- function, for an exchange without effects pays for each that is made.
-- `carriers`: the settlements that store some.
-- `look_up(now)`: finds out which of the given ids are in use, and returns them. A job that is
--   settled in this exchange is still in the index.
-- `store(missing, now)`: stores them, but for those of settlements that are `missing`. Returns how
--   many are stored, and whether one of them is due before all others.
local function new_effects(begin)
  local effects, known = {carriers = {}}, nil
  -- The priority of each word in use; the ids that were given, and not made for their jobs.
  local priorities, given = {}, {}
  if (#ARGV + 1 - begin) % EFFECT ~= 0 then return nil, redis.error_reply('ERR bad length') end
  for place = begin, #ARGV, EFFECT do
    local position, word, due = tonumber(ARGV[place]), ARGV[place + 2], ARGV[place + 3]
    if not priorities[word] then
      local priority = string.sub(word, 1, 1)
      local stream = READY[(tonumber(priority) or -1) + 1]
      if not stream then return nil, redis.error_reply('ERR bad effect') end
      -- rule:5 a success is acknowledged only where the jobs that it stores can be made ready
      redis.call('XLEN', stream)
      priorities[word] = priority
    end
    if not position or due ~= '' and not tonumber(due) then
      return nil, redis.error_reply('ERR bad effect')
    end
    effects.carriers[position] = true
    if string.sub(word, 2, 2) ~= 'n' then given[#given + 1] = ARGV[place + 1] end
  end
  -- rule:5 a success is acknowledged only where the times of the jobs that it stores can be kept
  redis.call('ZCARD', SCHEDULED)
  -- rule:5 a success is acknowledged only where the envelopes of these jobs can be kept
  redis.call('HEXISTS', SCHEDULED_DATA, '')
  -- rule:5 a success is acknowledged only where the places of these jobs can be kept
  redis.call('HEXISTS', INDEX, '')

  function effects.look_up(now)
    known = recall(now, given)
    for first = 1, #given, CHUNK do
      local last = math.min(first + CHUNK - 1, #given)
      local found = redis.call('HMGET', INDEX, unpack(given, first, last))
      for offset = 1, #found do
        if found[offset] then known[given[first + offset - 1]] = true end
      end
    end
    return known
  end

  function effects.store(missing, now)
    local earliest, places, stale, signals = next_due() or math.huge, {}, {}, false
    local result, largest, newest = #KEYS - #given, 0, nil
    for place = begin, #ARGV, EFFECT do
      local id, word, due, envelope = unpack(ARGV, place + 1, place + 4)
      local priority, was_given = priorities[word], string.sub(word, 2, 2) ~= 'n'
      if was_given then result = result + 1 end
      -- rule:5 a success that does not count stores nothing, so one sent again stores nothing twice
      if not missing[tonumber(ARGV[place])] and not known[id] then
        known[id] = true
        local ms, entry = tonumber(due) or now, nil
        if string.sub(due, 1, 1) == '+' then ms = now + ms end
        if ms <= now then entry = redis.pcall('XADD', READY[priority + 1], '*', id, envelope) end
        places[#places + 1] = id
        if type(entry) == 'string' then
          places[#places + 1] = priority .. ':' .. entry
          largest, newest = math.max(largest, #envelope), entry
        else
          -- A job that could not be made ready is stored as due: its success is acknowledged
          -- already, so nobody would send it again.
          redis.call('HSET', SCHEDULED_DATA, id, priority .. envelope)
          redis.call('ZADD', SCHEDULED, string.format('%.0f', ms), id)
          places[#places + 1] = 's'
          signals = signals or ms < earliest
        end
        -- A result may be kept for longer than the id. It would be taken for that of the new job.
        if was_given then stale[#stale + 1] = KEYS[result] end
      end
    end
    in_chunks('HSET', INDEX, places)
    note_large(largest, newest)
    for first = 1, #stale, CHUNK do
      redis.call('UNLINK', unpack(stale, first, math.min(first + CHUNK - 1, #stale)))
    end
    return #places / 2, signals
  end

  return effects
end
