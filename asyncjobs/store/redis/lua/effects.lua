-- The jobs that successes store, and those of ticks: for exchange.lua and the scripts of schedules.
-- It stands behind shared.lua, ended.lua and placing.lua.
-- KEYS: those of shared.lua; behind all others the result key of each job whose id was given.
-- ARGV: from `begin` on for each job: the place of the settlement that stores it, then id,
--   priority, due and envelope as in enqueue.lua. With a 't' behind the priority, the terms of the
--   job follow, as in terms.lua. With an 'o' it is for another queue, whose name comes last. With
--   the priority 'ba' or 'bf' it is a barrier that the success raises, in front of the jobs: id, then
--   the mode, how many arrivals more, and its queue, or '' for this one.
-- Result: none of its own.

-- Checks them before the first write. Returns them, or nil and the error to answer with. One
-- function, for an exchange without effects pays for each that is made.
-- `carriers`: the settlements that store some.
-- `look_up()`: finds out which of the given ids are in use, and returns them. A job that is
--   settled in this exchange is still in the index.
-- `store(missing)`: stores them, but for those of settlements that are `missing`. Returns how
--   many are stored, and whether one of them is due before all others.
-- `places`: those that did not go their usual way: {settlement, how, id in its place, own id}.
-- `is_ready`: whether one was made ready. `placing`: nil while no job has terms.
local function new_effects(begin, now)
  local effects, known = {carriers = {}, places = {}, is_ready = false}, {}
  -- What each word says: priority, whether the id was given, whether terms follow. And the ids that
  -- were given, and not made for their jobs.
  local words, given, at = {}, {}, begin
  while at <= #ARGV do
    local position, word, due = tonumber(ARGV[at]), ARGV[at + 2], ARGV[at + 3]
    if not position or not ARGV[at + 4] or due ~= '' and not tonumber(due) then
      return nil, redis.error_reply('ERR bad effect')
    end
    local is_barrier = word == 'ba' or word == 'bf'
    if is_barrier then
      effects.placing = effects.placing or open_placing(now)
      effects.placing.need_barriers()
      words[word] = {nil, false, false}
    end
    if not words[word] then
      local stream = READY[(tonumber(string.sub(word, 1, 1)) or -1) + 1]
      if not stream then return nil, redis.error_reply('ERR bad effect') end
      -- rule:5 a success is acknowledged only where the jobs that it stores can be made ready
      redis.call('XLEN', stream)
      local is_foreign = string.find(word, 'o', 2, true) ~= nil
      words[word] = {tonumber(string.sub(word, 1, 1)),
        not is_foreign and not string.find(word, 'n', 2, true),
        string.find(word, 't', 2, true) ~= nil, is_foreign}
      -- A success is acknowledged only where the outbox can be written.
      if is_foreign then check_outbox() end
    end
    local about = words[word]
    local was_given, has_terms, is_foreign = about[2], about[3], about[4]
    if has_terms then
      effects.placing = effects.placing or open_placing(now)
      -- rule:37 a success is acknowledged only where the terms of its jobs can be read
      if not effects.placing.read(ARGV[at + 5] or '?') then
        return nil, redis.error_reply('ERR bad terms')
      end
    end
    effects.carriers[position] = true
    if was_given then given[#given + 1] = ARGV[at + 1] end
    at = at + 5 + (has_terms and 1 or 0) + (is_foreign and 1 or 0)
    if at > #ARGV + 1 then return nil, redis.error_reply('ERR bad effect') end
  end
  -- rule:5 a success is acknowledged only where the times of the jobs that it stores can be kept
  redis.call('ZCARD', SCHEDULED)
  -- rule:5 a success is acknowledged only where the envelopes of these jobs can be kept
  redis.call('HEXISTS', SCHEDULED_DATA, '')
  -- rule:5 a success is acknowledged only where the places of these jobs can be kept
  redis.call('HEXISTS', INDEX, '')
  -- rule:37 a success is acknowledged only where the terms of its jobs can be kept
  if effects.placing then effects.placing.check() end

  function effects.look_up()
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

  -- Stores a job without terms. Returns its place, and its entry when it is ready.
  local function put(id, priority, ms, envelope)
    local entry
    if ms <= now then entry = redis.pcall('XADD', READY[priority + 1], '*', id, envelope) end
    if type(entry) == 'string' then
      effects.is_ready = true
      return priority .. ':' .. entry, entry
    end
    -- A job that could not be made ready is stored as due: its success is acknowledged
    -- already, so nobody would send it again.
    redis.call('HSET', SCHEDULED_DATA, id, priority .. envelope)
    redis.call('ZADD', SCHEDULED, string.format('%.0f', ms), id)
    return 's'
  end

  function effects.store(missing)
    local earliest, index, stale, signals = next_due() or math.huge, {}, {}, false
    local result, largest, newest, stored = #KEYS - #given, 0, nil, 0
    at = begin
    while at <= #ARGV do
      local id, word, due, envelope = unpack(ARGV, at + 1, at + 4)
      local about = words[word]
      local priority, was_given, has_terms, is_foreign = about[1], about[2], about[3], about[4]
      local position, how, other, entry = tonumber(ARGV[at]), nil, nil, nil
      if was_given then result = result + 1 end
      -- rule:5 a success that does not count stores nothing, so one sent again stores nothing twice
      local counts = not missing[position]
      if not priority then
        -- rule:36 a success raises barriers before it counts itself
        if counts then effects.placing.barriers.raise(envelope, id, due, string.sub(word, 2)) end
      elseif is_foreign and counts then
        local ms, terms = due, has_terms and ARGV[at + 5] or ''
        if string.sub(due, 1, 1) == '+' then ms = string.format('%.0f', now + tonumber(due)) end
        -- rule:37 a job for another queue goes into the outbox with the success
        post_to(ARGV[at + 5 + (has_terms and 1 or 0)], 'j', id, word, ms, envelope, terms)
      elseif counts then
        local ms = tonumber(due) or now
        if string.sub(due, 1, 1) == '+' then ms = now + ms end
        if known[id] then
          how, other = 'there', id
        elseif has_terms then
          -- rule:37 what a success stores keeps its terms
          how, other = effects.placing.place(id, priority, math.max(ms, now), envelope, ARGV[at + 5])
        else
          index[#index + 1] = id
          index[#index + 1], entry = put(id, priority, ms, envelope)
          if entry then
            largest, newest = math.max(largest, #envelope), entry
          else
            signals = signals or ms < earliest
          end
        end
        if how then effects.places[#effects.places + 1] = {position, how, other, id} end
        if not how or how == 'held' then
          stored, known[id] = stored + 1, true
          -- A result may be kept for longer than the id. It would be taken for that of the new job.
          if was_given then stale[#stale + 1] = KEYS[result] end
        end
      end
      at = at + 5 + (has_terms and 1 or 0) + (is_foreign and 1 or 0)
    end
    in_chunks('HSET', INDEX, index)
    note_large(largest, newest)
    for first = 1, #stale, CHUNK do
      redis.call('UNLINK', unpack(stale, first, math.min(first + CHUNK - 1, #stale)))
    end
    if effects.placing then
      effects.is_ready = effects.is_ready or effects.placing.is_ready()
      signals = signals or effects.placing.is_earlier()
    end
    return stored, signals
  end

  return effects
end
