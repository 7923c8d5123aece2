-- What becomes of jobs that wait: due ones are made ready, others are taken out of their places. It
-- stands behind shared.lua and unique.lua; see there.
-- KEYS: none of its own.
-- ARGV: none of its own.
-- Result: none of its own.

-- Makes up to `most` due jobs ready, fewer if they are large. Returns how many, and the error of
-- one that could not be made ready; and ids and envelopes of those that do not wait at their gates.
local function promote(now, most)
  -- rule:11 promotion is bounded
  local due = redis.call('ZRANGE', SCHEDULED, '-inf', string.format('%.0f', now), 'BYSCORE',
    'LIMIT', 0, most)
  local size, last, index, failed, promoted = 0, #due, {}, nil, 0
  local gates, refused = gates_here(now), {}
  for position = 1, #due do
    -- The jobs that are left are due, so a worker with a free slot comes back for them at once.
    -- rule:11 promotion stops after 4 MiB
    if size >= MAX_BYTES then
      last = position - 1
      break
    end
    local stored = redis.call('HGET', SCHEDULED_DATA, due[position])
    if stored then
      local is_refused = gates and gates.is_refused(due[position], refused)
      if is_refused then
        refused[#refused + 1] = due[position]
        refused[#refused + 1] = stored
      end
      local place = not is_refused
        and make_ready(priority_of(stored), due[position], string.sub(stored, 2), now)
      -- rule:5 due jobs are made ready once, also when one of them cannot be
      if type(place) == 'table' then
        last, failed = position - 1, place
        break
      end
      size = size + #stored
      if place then
        promoted = promoted + 1
        index[#index + 1] = due[position]
        index[#index + 1] = place
      end
    end
  end
  -- Also before an error is returned, or the jobs that are ready now would be made ready again and
  -- again.
  for position = #due, last + 1, -1 do due[position] = nil end
  in_chunks('ZREM', SCHEDULED, due)
  in_chunks('HDEL', SCHEDULED_DATA, due)
  in_chunks('HSET', INDEX, index)
  -- One that came before may have made room for one that came behind it.
  -- rule:34 what has made room is in the index no more
  for place = 1, #refused, 2 do redis.call('HDEL', INDEX, refused[place]) end
  return promoted, failed, refused
end

-- Fails for keys of a wrong type, before anything is taken out: the entry of a job would be gone
-- and its place in the index would not.
local function check_waiting()
  for slot = 1, 4 do redis.call('XLEN', READY[slot]) end
  redis.call('ZCARD', SCHEDULED)
  for _, key in ipairs({INDEX, SCHEDULED_DATA, CRASHES}) do
    redis.call('HEXISTS', key, '')
  end
  if gates_here(store_now()) then GATES.check() end
end

-- Whether a job at this place of the index waits, and nobody runs it.
local function is_queued(place)
  if place == 's' or place == 'h' or place == 'g' or place == 'b' then return true end
  local slot, entry = tonumber(string.sub(place, 1, 1)) + 1, string.sub(place, 3)
  local pending = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1)
  return pending.err ~= nil or pending[1] == nil or is_waiting(pending[1][2])
end

-- Takes a ready, scheduled or held job out of its place and out of the index; what it was stored
-- as, with its priority in front. For a job that runs: nil, and the lease that holds it. For an id
-- that no living job has: nil. The caller says how the job ends, and frees its unique key, or puts
-- it to another place.
local function take_out(id)
  local place = redis.call('HGET', INDEX, id)
  if not place then return nil end
  local stored
  if place == 's' then
    stored = redis.call('HGET', SCHEDULED_DATA, id) or ''
    -- rule:8 a scheduled job is removed
    redis.call('ZREM', SCHEDULED, id)
    redis.call('HDEL', SCHEDULED_DATA, id)
  elseif place == 'h' then
    -- rule:21 a held job that is taken out never gets its key
    stored = open_locks(0).unhold(id)
  elseif place == 'g' then
    -- rule:34 a job that is taken out of its lane is on nobody's way
    stored = gates_anyway(store_now()).take_out(id)
  elseif place == 'b' then
    local _, found = behind_of(id)
    stored = found or ''
    drop_behind({id})
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
