-- Takes a job that waits out of its place. It stands behind shared.lua; see there.
-- KEYS: none of its own.
-- ARGV: none of its own.
-- Result: none of its own.

-- Fails for keys of a wrong type, before anything is taken out: the entry of a job would be gone and
-- its place in the index would not.
local function check_waiting()
  for slot = 1, 4 do redis.call('XLEN', READY[slot]) end
  redis.call('ZCARD', SCHEDULED)
  for _, key in ipairs({INDEX, SCHEDULED_DATA, CRASHES}) do
    redis.call('HEXISTS', key, '')
  end
end

-- Takes a ready or scheduled job out of its place and out of the index; what it was stored as, with
-- its priority in front. For a job that runs: nil, and the lease that holds it. For an id that no
-- living job has: nil. The caller says how the job ends, or puts it to another place.
local function take_out(id)
  local place = redis.call('HGET', INDEX, id)
  if not place then return nil end
  local stored
  if place == 's' then
    stored = redis.call('HGET', SCHEDULED_DATA, id) or ''
    -- rule:8 a scheduled job is removed
    redis.call('ZREM', SCHEDULED, id)
    redis.call('HDEL', SCHEDULED_DATA, id)
  else
    local slot, entry = tonumber(string.sub(place, 1, 1)) + 1, string.sub(place, 3)
    local pending = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1)
    local is_pending = not pending.err and pending[1] ~= nil
    -- rule:8 a running entry is never deleted
    -- rule:8 a job given back is ready, not running
    if is_pending and not is_waiting(pending[1][2]) then return nil, pending[1][2] end
    local found = redis.call('XRANGE', READY[slot], entry, entry)
    stored = (slot - 1) .. (found[1] and found[1][2][2] or '')
    -- rule:8 a job given back is acknowledged, or it stays pending
    if is_pending then redis.call('XACK', READY[slot], GROUP, entry) end
    -- rule:8 a ready job is removed
    redis.call('XDEL', READY[slot], entry)
    redis.call('HDEL', CRASHES, (slot - 1) .. ':' .. entry)
  end
  redis.call('HDEL', INDEX, id)
  return stored
end
