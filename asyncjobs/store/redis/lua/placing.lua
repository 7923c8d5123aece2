-- Places new jobs that have terms: what enqueues, successes, schedules and relays have in common. It
-- stands behind shared.lua, ended.lua, terms.lua, unique.lua and barriers.lua. Whoever keeps a term has one line
-- in `read`, in `check` and in `place`.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- One function, for a script that meets no terms pays for each that is made.
-- `read(text)`: notes the terms that a job will be placed with; false when they are malformed.
-- `check()`: raises an error where a key that they need has a wrong type. Both come before the first
--   write.
-- `place(id, priority, due, envelope, text, is_new)`: stores a job, unless its id or its unique key is
--   taken. Returns nothing for one that goes its usual way. Else what became of it, 'there',
--   'replaced' or 'held', and the id of the job in its place; 'cancelled' for one that does not wait
--   at its gate. `end_refused(id_ttl, history)`: ends those. `id_ttl` is for how many ms their ids
--   stay known, and `history` how many jobs it keeps.
-- `gather()`, `flush()`: as those of barriers.lua, for a script that places many jobs.
-- `locks`: those of unique.lua; `is_unique`: whether some job needs them. `barriers`: those of
--   barriers.lua; nil while no job needs them, and `need_barriers` was not called.
-- `is_ready()`, `is_earlier()`: whether a job was made ready, or is due before all others.
local function open_placing(now)
  local locks = open_locks(now)
  local placing = {locks = locks, is_unique = false, first_key = nil}
  -- `gone`: the ids of those that are `refused`. They are in the index no more.
  local gates, refused, gone, gathers = nil, {}, {}, false
  local known = setmetatable({}, {__index = function(parsed, text)
    parsed[text] = read_terms(text) or false
    return parsed[text]
  end})

  function placing.need_barriers()
    placing.barriers = placing.barriers or open_barriers(now)
    return placing.barriers
  end

  function placing.read(text)
    local terms = known[text]
    if not terms then return false end
    if terms.u then
      placing.is_unique = true
      placing.first_key = placing.first_key or terms.u
    end
    if terms.g then
      gates = gates_anyway(now)
      if not gates.read_gate(terms.g) then return false end
    end
    if terms.a or terms.b or terms.n then placing.need_barriers() end
    return true
  end

  function placing.check()
    -- What is written in `place` is read first: an error later does not roll back.
    for slot = 1, 4 do redis.call('XLEN', READY[slot]) end
    redis.call('ZCARD', SCHEDULED)
    for _, key in ipairs({SCHEDULED_DATA, INDEX}) do redis.call('HEXISTS', key, '') end
    -- rule:37 jobs with a unique key are stored only where it can be kept
    if placing.is_unique then locks.check() end
    -- Jobs with a gate are stored only where they can wait at it.
    if gates then gates.check() end
    if placing.barriers then placing.barriers.check() end
  end

  function placing.place(id, priority, due, envelope, text, is_new)
    local terms, how, other = known[text], nil, nil
    -- rule:36 whoever looks for a job finds those of its own batch
    if gathers and (not is_new or terms.u or terms.g) then placing.barriers.flush() end
    -- The id comes first: the same id is the same job, whatever it holds.
    -- rule:34 an id that has ended in a batch is known in it
    if not is_new and (gone[id] or redis.call('HEXISTS', INDEX, id) == 1) then return 'there', id end
    locks.gate = terms.g
    if terms.u then
      local lock = locks.claim(id, terms.u, due)
      if lock then how, other = locks.meet(lock, id, terms.u, priority, envelope, due) end
      if how and how ~= 'held' then
        -- rule:36 a job that is not stored for its unique key holds up nobody
        if placing.barriers then placing.barriers.absent(id, terms) end
        return how, other
      end
    end
    -- It is stored from here on. What is kept of it besides has its place here: its gate, its
    -- arrivals, its node. One that is held for its key has them for the time when it goes on.
    if placing.barriers then placing.barriers.enter(id, terms) end
    if terms.g then
      gates.note(id, terms.g, not how and not terms.b and due <= now)
      -- One behind a barrier comes to its gate when that has fallen.
      if not how and not terms.b and due <= now then
        local first, is_refused = #refused + 1, gates.is_refused(id, refused)
        if is_refused then
          refused[#refused + 1] = id
          refused[#refused + 1] = priority .. envelope
        end
        for at = first, #refused, 2 do gone[refused[at]] = true end
        if is_refused then return 'cancelled', id end
      end
    end
    if how then return how, other end
    -- A job behind a barrier is held here, and is not put.
    if terms.b and placing.barriers.hold(id, terms.b, priority, envelope, due) then return end
    redis.call('HSET', INDEX, id, locks.put(id, priority, envelope, due))
  end

  -- Lets the jobs behind barriers be written together, at `flush()`.
  function placing.gather()
    gathers = placing.barriers ~= nil
    if gathers then placing.barriers.gather() end
  end

  function placing.flush()
    if gathers then placing.barriers.flush() end
  end

  function placing.end_refused(id_ttl, history)
    if #refused > 0 then end_refused(refused, now, id_ttl, history) end
    refused = {}
  end

  function placing.is_ready()
    return locks.is_ready or placing.barriers ~= nil and placing.barriers.is_left
  end

  function placing.is_earlier() return locks.is_earlier end

  return placing
end
