-- What several scripts do about jobs that have ended: with their ids, notes and letters. It stands
-- behind shared.lua, which says how scripts get what they use.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.
-- Sets until when a hash of known ids counts, which is `width` after the last id in it. Both
-- stand in its field '', so that processes with different id_ttl can share the hash.
local function keep_known(key, until_ms, width, now)
  redis.call('HSET', key, '', string.format('%.0f %.0f', until_ms, width))
  -- Ten minutes later than needed. Until then prune unlinks it in the background, for the plain
  -- expiry of a large hash may stop the server for a while.
  redis.call('PEXPIRE', key, string.format('%.0f', until_ms - now + 600000))
end

-- Until when a hash with this field '' counts; 0 when it does not. A time further ahead than two
-- of its widths was written before the clock was set back. Then the hash counts for two widths
-- from now on, or its ids would stay known for as long as the step.
local function known_until(key, field, now)
  local until_ms, width = string.match(field or '', '^(%d+) ?(%d*)$')
  until_ms, width = tonumber(until_ms or '0'), tonumber(width)
  -- rule:9 after a step back of the clock ids are known no longer than they may be
  if width and until_ms > now + 2 * width then
    until_ms = now + 2 * width
    keep_known(key, until_ms, width, now)
  end
  return until_ms
end

-- Remembers the ids of jobs that have ended, in three hashes in turn. So old ids are dropped by
-- one UNLINK, not one by one.
local function remember(now, width, ids_and_states)
  if #ids_and_states == 0 or width <= 0 then return end
  local bucket = math.floor(now / width)
  local key, until_ms = KNOWN[bucket % 3 + 1], (bucket + 2) * width
  local stored = known_until(key, redis.call('HGET', key, ''), now)
  if stored <= now then redis.call('UNLINK', key) end
  if stored < until_ms then keep_known(key, until_ms, width, now) end
  in_chunks('HSET', key, ids_and_states)
end

-- In which states jobs with these ids have ended, by code, as far as that is remembered.
local function recall(now, ids)
  local states = {}
  for first = 1, #ids, CHUNK do
    local last = math.min(first + CHUNK - 1, #ids)
    for slot = 1, 3 do
      local found = redis.call('HMGET', KNOWN[slot], '', unpack(ids, first, last))
      if known_until(KNOWN[slot], found[1], now) > now then
        for place = 2, #found do
          if found[place] then states[ids[first + place - 2]] = found[place] end
        end
      end
    end
  end
  return states
end

-- Drops the notes of jobs that have ended. Their keys are not among KEYS, for most jobs have no
-- notes and the caller does not know which do. They have the hash tag of the queue, so its slot.
local function drop_notes(ids)
  if #ids == 0 or redis.call('EXISTS', NOTED) == 0 then return end
  local base = string.sub(WAKE, 1, -5)
  local has_waits = redis.call('EXISTS', base .. 'waits') == 1
  for first = 1, #ids, CHUNK do
    local last = math.min(first + CHUNK - 1, #ids)
    local found = redis.call('SMISMEMBER', NOTED, unpack(ids, first, last))
    for offset = 1, #found do
      if found[offset] == 1 then
        local id = ids[first + offset - 1]
        local wait = has_waits and redis.pcall('HGET', base .. 'notes:' .. id, 'waits')
        -- rule:31 a job that has ended waits for no event
        if type(wait) == 'string' then redis.pcall('ZREM', base .. 'waits', wait) end
        redis.call('SREM', NOTED, id)
        redis.call('UNLINK', base .. 'notes:' .. id)
      end
    end
  end
end

-- Counts the bytes of dead letters, which are bounded. A count that a foreign writer has spoiled
-- starts again at 0, for no job may be lost because of it.
local function count_letters(bytes)
  -- rule:5 a count of letters that is spoiled loses no job
  local counted = redis.pcall('INCRBY', DEAD_BYTES, bytes)
  if type(counted) == 'table' then redis.call('SET', DEAD_BYTES, math.max(bytes, 0)) end
end

-- Keeps the letter of a job that has died. Its entry is acknowledged by now, so nothing behind it
-- may fail: the jobs that are settled after it would be lost.
local function bury(id, now, stored)
  local base, size = string.sub(WAKE, 1, -5), #stored
  local notes = base .. 'dead:notes:' .. id
  local before = redis.call('HSTRLEN', DEAD_DATA, id)
  redis.call('ZADD', DEAD, string.format('%.0f', now), id)
  redis.call('HSET', DEAD_DATA, id, stored)
  local is_noted = redis.call('SREM', NOTED, id) == 1
  if is_noted or before > 0 then
    -- Those of a letter that this one replaces, or that an older release has dropped.
    before = before + (tonumber(redis.pcall('HGET', DEAD_NOTED, id)) or 0)
    redis.pcall('HDEL', DEAD_NOTED, id)
    -- RENAME would free them at once.
    redis.call('UNLINK', notes)
  end
  -- The notes of a dead job are kept apart, for a new job may use its id before the letter goes.
  if is_noted then
    local wait = redis.pcall('HGET', base .. 'notes:' .. id, 'waits')
    if type(wait) == 'string' then
      -- rule:31 a dead letter waits for no event
      redis.pcall('ZREM', base .. 'waits', wait)
      redis.call('HDEL', base .. 'notes:' .. id, 'waits', 'waits:until')
    end
    local bytes, found = 0, redis.pcall('HGETALL', base .. 'notes:' .. id)
    for position = 1, #found do bytes = bytes + #found[position] end
    if #found > 0 then
      redis.call('RENAME', base .. 'notes:' .. id, notes)
      -- rule:11 the notes of a dead letter count as its bytes
      if redis.pcall('HSET', DEAD_NOTED, id, bytes) == 1 then size = size + bytes end
    else
      -- What a foreign writer has put there holds no notes.
      redis.call('UNLINK', base .. 'notes:' .. id)
    end
  end
  count_letters(size - before)
end

-- How many bytes a letter takes, with the notes of its job.
local function letter_bytes(id)
  local notes = redis.pcall('HGET', DEAD_NOTED, id)
  return redis.call('HSTRLEN', DEAD_DATA, id) + (tonumber(notes) or 0)
end

local function drop_letters(ids)
  if #ids == 0 then return end
  local bytes = 0
  for position = 1, #ids do bytes = bytes + letter_bytes(ids[position]) end
  if type(redis.pcall('HLEN', DEAD_NOTED)) == 'table' then redis.call('UNLINK', DEAD_NOTED) end
  for position = 1, #ids do
    redis.call('UNLINK', string.sub(WAKE, 1, -5) .. 'dead:notes:' .. ids[position])
  end
  in_chunks('HDEL', DEAD_NOTED, ids)
  in_chunks('ZREM', DEAD, ids)
  in_chunks('HDEL', DEAD_DATA, ids)
  -- A letter that a foreign writer has put there was never counted. Without letters the count
  -- starts again, or its error would stay for ever.
  if redis.call('EXISTS', DEAD) == 0 then
    redis.call('UNLINK', DEAD_BYTES)
  else
    count_letters(-bytes)
  end
end
