-- What is stored of the jobs that are behind barriers: for all scripts that meet a job which waits.
-- It stands behind shared.lua, and in front of unique.lua. Its keys are made from the start of the
-- queue's names, for most scripts meet no such job.
--   barriers:of     id -> '<due ms> <barrier>': the barrier that it is behind
--   barriers:data   id -> '<priority><envelope>'
--   barriers:since  id -> since when it is held (ms)
--   barriers:behind:<barrier>  their ids, in the order in which they came; some may be gone
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.
local function barriers_key(name) return string.sub(WAKE, 1, -5) .. 'barriers:' .. name end

-- For each of these jobs: the barrier that it is behind, when it is due, and what is stored of it;
-- false for one that is behind none. No more than CHUNK.
local function all_behind(ids)
  local found = redis.call('HMGET', barriers_key('of'), unpack(ids))
  local stored = redis.call('HMGET', barriers_key('data'), unpack(ids))
  for place = 1, #ids do
    local due, barrier = string.match(found[place] or '', '^(%d+) (.*)$')
    found[place] = due and {barrier, tonumber(due), stored[place] or ''}
  end
  return found
end

-- The barrier that a job is behind, what is stored of it, and when it is due; nil without one.
local function behind_of(id)
  local found = all_behind({id})[1]
  if not found then return nil end
  return found[1], found[3], found[2]
end

-- Takes jobs out of these keys. They may stand in the lists still, and are passed over there.
local function drop_behind(ids)
  for _, name in ipairs({'of', 'data'}) do in_chunks('HDEL', barriers_key(name), ids) end
  -- rule:20 a job that is let go is listed as held no longer
  in_chunks('ZREM', barriers_key('since'), ids)
end

-- Gives a job behind a barrier another call, and another time if there is one.
local function change_behind(id, stored, due)
  redis.call('HSET', barriers_key('data'), id, stored)
  local barrier = due and behind_of(id)
  if barrier then
    redis.call('HSET', barriers_key('of'), id, string.format('%.0f ', math.max(due, 0)) .. barrier)
  end
end
