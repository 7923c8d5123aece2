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

-- The barrier that a job is behind, what is stored of it, and when it is due; nil without one.
local function behind_of(id)
  local due, barrier = string.match(redis.call('HGET', barriers_key('of'), id) or '',
    '^(%d+) (.*)$')
  if not due then return nil end
  return barrier, redis.call('HGET', barriers_key('data'), id) or '', tonumber(due)
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
