-- The locks of unique jobs, for the scripts in which such jobs come, start, wait again or end. It
-- stands behind shared.lua and ended.lua. A lock says which job holds a key. It is freed when that
-- job has ended or is taken ('started'), or by time. What it needs besides UNIQUE_OF is made from
-- the start of the queue's names: most scripts meet no unique job, and pay for each key in KEYS.
--   unique          key -> '<mode> <until ms> <first ms> <id>': who holds it
--   unique:of       id -> '<mode><1 when it was taken before><key>': which key it has, or waits for
--   unique:next     key -> '<ttl ms> <due ms> <id>': who gets it next
--   unique:held     id -> '<priority><envelope>' of those who wait for their key
--   unique:since    id -> since when it waits for its key (ms)
--   unique:windows  key -> until when its window lasts
-- Modes: 'f' until finished, 's' until started, 'w' for a window; 'h' in unique:of: it is held.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.
local UNIQUE_OF = QUEUE['unique:of']

-- One function, for a script that meets no unique job pays for each that is made.
-- `check()`: raises an error where a key has a wrong type. That comes before the first write.
-- `claim(id, terms)`: gives a new job its key. Returns nothing, or the lock of another job.
-- `put(id, priority, envelope, due)`: stores a job. Returns its place for the index.
-- `meet(lock, id, terms, priority, envelope, due)`: what becomes of a job that has met this lock:
--   'there', 'replaced' or 'held', and the id of the job in its place.
-- `lend(id, terms)`: gives a free key to a job that runs.
-- `begin(entries)`: these jobs are taken.
-- `free(key, id)`: takes the key from this job; whether it held it.
-- `ended(ids)`: they have ended. `unhold(id)`: takes out a held job. Returns it as it is stored.
-- `prolong(id, ms)`: this job waits for so much longer than it was to.
-- `holder_of(id)`: for whose end a held job waits.
-- `is_ready`, `is_earlier`: whether a job was made ready, or is due before all others.
local function open_locks(now)
  local base = string.sub(WAKE, 1, -5)
  local LOCKS, NEXT, HELD = base .. 'unique', base .. 'unique:next', base .. 'unique:held'
  local WINDOWS, SINCE = base .. 'unique:windows', base .. 'unique:since'
  local locks = {is_ready = false, is_earlier = false}

  function locks.check()
    -- rule:21 nothing is settled or stored where a key could not be freed for the next job
    for _, key in ipairs({LOCKS, UNIQUE_OF, NEXT, HELD, SCHEDULED_DATA, INDEX}) do
      redis.call('HEXISTS', key, '')
    end
    for _, key in ipairs({WINDOWS, SINCE, SCHEDULED}) do redis.call('ZCARD', key) end
  end

  function locks.put(id, priority, envelope, due)
    if due <= now then
      local place = make_ready(priority, id, envelope, now)
      if type(place) == 'string' then
        locks.is_ready = locks.is_ready or place ~= 'g' or GATES.is_ready
        -- A job whose lane is put off until before all others signals.
        locks.is_earlier = locks.is_earlier or place == 'g' and GATES.is_earlier
        return place
      end
      -- One that could not be made ready is stored as due. What made room for it has happened.
    end
    if due < (next_due() or math.huge) then locks.is_earlier = true end
    redis.call('HSET', SCHEDULED_DATA, id, priority .. envelope)
    redis.call('ZADD', SCHEDULED, string.format('%.0f', due), id)
    return 's'
  end

  local function read(key)
    local stored = redis.call('HGET', LOCKS, key)
    local mode, over, first, id = string.match(stored or '', '^([fsw]) (%d+) (%d+) (.*)$')
    -- What a foreign writer has put there locks nothing.
    if not mode then return nil end
    return {key = key, mode = mode, over = tonumber(over), first = tonumber(first), id = id}
  end

  local function write(lock)
    redis.call('HSET', LOCKS, lock.key,
      string.format('%s %.0f %.0f ', lock.mode, lock.over, lock.first) .. lock.id)
  end

  -- Takes the key from its job, and gives it to the one that waits for it.
  local function drop(lock)
    if lock.mode == 'w' then redis.call('ZREM', WINDOWS, lock.key) end
    local ttl, due, id = string.match(redis.call('HGET', NEXT, lock.key) or '',
      '^(%d+) (%d+) (.*)$')
    redis.call('HDEL', NEXT, lock.key)
    local stored = id and redis.call('HGET', HELD, id)
    -- rule:21 a key that nobody waits for is free
    if not stored then
      redis.call('HDEL', LOCKS, lock.key)
      return
    end
    -- rule:21 a held job goes on in the step in which the job before it ends
    redis.call('HSET', INDEX, id,
      locks.put(id, priority_of(stored), string.sub(stored, 2), tonumber(due)))
    redis.call('HDEL', HELD, id)
    -- rule:20 a job that goes on is listed as held no longer
    redis.call('ZREM', SINCE, id)
    redis.call('HSET', UNIQUE_OF, id, 'f0' .. lock.key)
    write({key = lock.key, mode = 'f', over = math.max(now, tonumber(due)) + tonumber(ttl),
      first = now, id = id})
  end

  -- Whether the job of a lock 'waits' or has 'started', and its place; nil when it is gone.
  -- Somebody may have deleted it by hand. A job that was taken once has started, also while it
  -- waits for a retry or was given back: nobody may change what has begun.
  local function look(id, key)
    local place = redis.call('HGET', INDEX, id)
    if not place then return nil end
    local is_there
    if place == 's' then
      is_there = redis.call('HEXISTS', SCHEDULED_DATA, id) == 1
    elseif place == 'g' then
      is_there = redis.call('HEXISTS', base .. 'gated:data', id) == 1
    elseif place == 'b' then
      is_there = behind_of(id) ~= nil
    else
      local stream = READY[(tonumber(string.sub(place, 1, 1)) or -1) + 1]
      local entry = string.sub(place, 3)
      is_there = stream and #redis.call('XRANGE', stream, entry, entry) > 0
    end
    if not is_there then return nil end
    local of = redis.call('HGET', UNIQUE_OF, id) or ''
    -- A window outlasts its job, which may be revived and run, or leave its id to another one.
    -- rule:21 only the job that has the key is replaced
    local has_started = string.sub(of, 2, 2) == '1' or string.sub(of, 3) ~= key
    return has_started and 'started' or 'waits', place
  end

  -- The lock on a key, with the state and the place of its job; nil when the key is free.
  local function look_up(key)
    -- Once more when the key has gone to the job that waited for it.
    for _ = 1, 2 do
      local lock = read(key)
      if not lock then return nil end
      if lock.first > now + STEP_MS then
        -- rule:21 after a step back of the clock a lock lasts no longer than it was to
        lock.over = lock.over - lock.first + now
        lock.first = now
        write(lock)
        if lock.mode == 'w' then
          -- rule:21 after a step back of the clock a window keeps its queue no longer than it lasts
          redis.call('ZADD', WINDOWS, string.format('%.0f', lock.over), key)
        end
      end
      lock.state, lock.place = look(lock.id, key)
      -- rule:21 a lock is free after its time
      -- rule:21 a lock whose job was deleted by hand is free
      if lock.over > now and (lock.mode == 'w' or lock.state) then return lock end
      if not lock.state then redis.call('HDEL', UNIQUE_OF, lock.id) end
      drop(lock)
    end
    return nil
  end

  -- Whether the job of a lock waits for a worker only, and not for calls any more.
  local function is_late(lock, latest)
    return latest > 0 and lock.mode == 's' and lock.state == 'waits'
      and lock.place ~= 's' and lock.place ~= 'b'
      and lock.first + latest <= now
  end

  function locks.claim(id, terms, due)
    local mode, ttl, latest, key = string.match(terms, '^(.). (%d+) (%d+) (.*)$')
    local lock = look_up(key)
    -- Replaced it would go behind all others again and again.
    -- rule:21 a debounced job that is ready at its latest time stays there, without its key
    if lock and is_late(lock, tonumber(latest)) then
      redis.call('HDEL', UNIQUE_OF, lock.id)
      drop(lock)
      lock = nil
    end
    -- rule:21 a key has one holder
    if lock then return lock end
    local from = math.max(now, due)
    if mode == 'w' then
      from = now
      redis.call('ZADD', WINDOWS, string.format('%.0f', now + tonumber(ttl)), key)
    end
    write({key = key, mode = mode, over = from + tonumber(ttl), first = now, id = id})
    redis.call('HSET', UNIQUE_OF, id, mode .. '0' .. key)
  end

  -- Puts the call of a new job in the place of one that has not started.
  local function replace(lock, ttl, latest, priority, envelope, due)
    -- rule:21 a debounced job starts at its latest time, whatever is called after it
    if latest > 0 then due = math.min(due, lock.first + latest) end
    if lock.place == 'b' then
      -- One behind a barrier stays there.
      change_behind(lock.id, priority .. envelope, due)
    elseif lock.place == 's' then
      redis.call('ZREM', SCHEDULED, lock.id)
      redis.call('HDEL', SCHEDULED_DATA, lock.id)
    elseif lock.place == 'g' then
      gates_anyway(now).take_out(lock.id)
    else
      local stream = READY[tonumber(string.sub(lock.place, 1, 1)) + 1]
      local entry = string.sub(lock.place, 3)
      -- It may have been set aside for a pause, and is pending then.
      redis.pcall('XACK', stream, GROUP, entry)
      redis.call('XDEL', stream, entry)
    end
    -- rule:21 the notes of a job that was dead go with the arguments that it had
    if redis.pcall('SREM', base .. 'noted', lock.id) == 1 then
      redis.call('UNLINK', base .. 'notes:' .. lock.id)
    end
    -- Who is replaced has the gate of the new call.
    if locks.gate then gates_anyway(now).note(lock.id, locks.gate) end
    if lock.place ~= 'b' then
      redis.call('HSET', INDEX, lock.id, locks.put(lock.id, priority, envelope, due))
    end
    if lock.mode ~= 'w' then
      lock.over = math.max(now, due) + ttl
      write(lock)
    end
  end

  function locks.meet(lock, id, terms, priority, envelope, due)
    local conflict, ttl, latest = string.match(terms, '^.(.) (%d+) (%d+) ')
    if conflict == '-' or not lock.state then return 'there', lock.id end
    -- rule:21 who only waits takes no job's place
    if conflict == 'q' and lock.state == 'waits' then return 'there', lock.id end
    -- rule:21 what has started keeps its arguments
    if lock.state == 'waits' then
      replace(lock, tonumber(ttl), tonumber(latest), priority, envelope, due)
      return 'replaced', lock.id
    end
    if conflict == 'r' or lock.mode ~= 'f' then return 'there', lock.id end
    local how, waiting = 'held', id
    local before = string.match(redis.call('HGET', NEXT, lock.key) or '', '^%d+ %d+ (.*)$')
    -- rule:21 one job at the most waits for a key
    if before and redis.call('HEXISTS', HELD, before) == 1 then
      how, waiting = 'replaced', before
    end
    -- rule:23 of the jobs that only wait, the first one does
    if conflict == 'q' and how == 'replaced' then return 'there', before end
    redis.call('HSET', HELD, waiting, priority .. envelope)
    -- A call in the place of another one waits for as long as that has waited.
    redis.call('ZADD', SINCE, 'NX', string.format('%.0f', now), waiting)
    redis.call('HSET', NEXT, lock.key, string.format('%.0f %.0f ', ttl, due) .. waiting)
    redis.call('HSET', UNIQUE_OF, waiting, 'h0' .. lock.key)
    redis.call('HSET', INDEX, waiting, 'h')
    return how, waiting
  end

  -- Gives a dead job its key again. Returns the id of the job that holds it, if there is one.
  function locks.again(id, mode, ttl, key)
    local lock = look_up(key)
    if lock then return lock.id end
    write({key = key, mode = mode, over = now + tonumber(ttl), first = now, id = id})
    redis.call('HSET', UNIQUE_OF, id, mode .. '0' .. key)
  end

  -- Gives a key that is free to a job that runs and has none, so that others can wait for its end.
  function locks.lend(id, terms)
    local ttl, key = string.match(terms, '^f. (%d+) %d+ (.*)$')
    if look_up(key) or redis.call('HEXISTS', UNIQUE_OF, id) == 1 then return end
    write({key = key, mode = 'f', over = now + tonumber(ttl), first = now, id = id})
    redis.call('HSET', UNIQUE_OF, id, 'f1' .. key)
  end

  -- Calls `act(id, mode, key)` for each of these jobs that is unique.
  local function each(ids, act)
    for first = 1, #ids, CHUNK do
      local last = math.min(first + CHUNK - 1, #ids)
      local found = redis.call('HMGET', UNIQUE_OF, unpack(ids, first, last))
      for offset = 1, #found do
        local of = found[offset]
        if of then act(ids[first + offset - 1], string.sub(of, 1, 1), string.sub(of, 3)) end
      end
    end
  end

  local function free(id, _, key)
    redis.call('HDEL', UNIQUE_OF, id)
    local lock = read(key)
    -- A window outlasts its job. A lock that is over by time may be another job's by now.
    -- rule:21 a job frees only what it holds itself
    if lock and lock.id == id and lock.mode ~= 'w' then drop(lock) end
  end

  function locks.ended(ids) each(ids, free) end

  function locks.free(key, id)
    local lock = read(key)
    if not lock or lock.id ~= id then return false end
    drop(lock)
    return true
  end

  function locks.begin(entries)
    local ids = {}
    for position = 1, #entries do ids[position] = entries[position][2][1] end
    each(ids, function(id, mode, key)
      if mode == 's' then
        -- rule:21 a key that lasts until its job starts is free when it is taken
        free(id, mode, key)
      else
        -- rule:21 a job that was taken has started, also while it waits for a retry
        redis.call('HSET', UNIQUE_OF, id, mode .. '1' .. key)
      end
    end)
  end

  function locks.unhold(id)
    local key = string.sub(redis.call('HGET', UNIQUE_OF, id) or '', 3)
    local waiting = string.match(redis.call('HGET', NEXT, key) or '', '^%d+ %d+ (.*)$')
    if waiting == id then redis.call('HDEL', NEXT, key) end
    local stored = redis.call('HGET', HELD, id)
    redis.call('HDEL', HELD, id)
    -- rule:20 a held job that is taken out is listed as held no longer
    redis.call('ZREM', SINCE, id)
    redis.call('HDEL', UNIQUE_OF, id)
    return stored or ''
  end

  -- Gives a held job another call, and another time if there is one.
  function locks.change(id, stored, due)
    redis.call('HSET', HELD, id, stored)
    local key = string.sub(redis.call('HGET', UNIQUE_OF, id) or '', 3)
    local ttl = string.match(redis.call('HGET', NEXT, key) or '', '^%d+')
    if ttl and due then
      redis.call('HSET', NEXT, key, string.format('%s %.0f ', ttl, math.max(due, 0)) .. id)
    end
  end

  -- A job waits for longer than it was to, so its lock lasts for longer.
  function locks.prolong(id, ms)
    local lock = read(string.sub(redis.call('HGET', UNIQUE_OF, id) or '', 3))
    if lock and lock.id == id and lock.mode ~= 'w' then
      lock.over = math.max(lock.over + ms, 0)
      write(lock)
    end
  end

  function locks.holder_of(id)
    local lock = read(string.sub(redis.call('HGET', UNIQUE_OF, id) or '', 3))
    return lock and lock.id or '', redis.call('HGET', HELD, id)
  end

  -- Drops what is over: windows, and locks of jobs that somebody has deleted by hand.
  function locks.prune(limit)
    local over = redis.call('ZRANGE', WINDOWS, '-inf', string.format('%.0f', now), 'BYSCORE',
      'LIMIT', 0, limit)
    for position = 1, #over do
      local lock = read(over[position])
      redis.call('ZREM', WINDOWS, over[position])
      if lock and lock.mode == 'w' then drop(lock) end
    end
    local sample = redis.call('HRANDFIELD', UNIQUE_OF, math.min(limit, 100), 'WITHVALUES')
    for position = 1, #sample, 2 do
      local id, is_held = sample[position], string.sub(sample[position + 1], 1, 1) == 'h'
      if redis.call('HEXISTS', INDEX, id) == 0 then
        if is_held then locks.unhold(id) else locks.ended({id}) end
      elseif is_held then
        local key = string.sub(sample[position + 1], 3)
        -- rule:21 a held job goes on when the lock that it waits for was deleted by hand
        if not read(key) then drop({key = key, mode = 'f'}) end
      end
    end
  end

  return locks
end
