-- What the scripts share that act on jobs which have not started. It stands behind waiting.lua;
-- shared.lua says how scripts get what they use.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- The lease that runs the job at this place, or nil.
local function runner_of(place)
  local slot, entry = tonumber(string.sub(place, 1, 1)), string.sub(place, 3)
  if not slot then return nil end
  local pending = redis.pcall('XPENDING', READY[slot + 1], GROUP, entry, entry, 1)
  if pending.err or not pending[1] or is_waiting(pending[1][2]) then return nil end
  return pending[1][2]
end

-- What keeps an action from a job with this place in the index, by its verdict; nil when it may go
-- on. `seen` names the stay that was chosen, as list_ready.lua and list_timed.lua say it: '' is
-- any.
local function obstacle(id, place, seen)
  if not place then return 'gone' end
  -- rule:20 an action changes no job that runs
  if runner_of(place) then return 'running' end
  local now_seen = place
  if place == 's' then
    now_seen = string.format('%.0f', time_of(redis.call('ZSCORE', SCHEDULED, id) or '0'))
  end
  -- rule:20 an action knows a held job by since when it is held
  if place == 'h' then
    now_seen = string.format('%.0f', time_of(redis.call('ZSCORE', UNIQUE_SINCE, id) or '0'))
  end
  if place == 'g' then
    local since = redis.call('ZSCORE', string.sub(WAKE, 1, -5) .. 'gated:since', id)
    now_seen = string.format('%.0f', time_of(since or '0'))
  end
  -- rule:20 an action knows a job behind a barrier by since when it is held
  if place == 'b' then
    local since = redis.call('ZSCORE', barriers_key('since'), id)
    now_seen = string.format('%.0f', time_of(since or '0'))
  end
  -- rule:20 an action changes no job that has moved since it was chosen
  if seen ~= '' and seen ~= now_seen then return 'moved' end
  return nil
end

-- Lets a job wait for a time. It must not be anywhere else by now.
local function put_off(id, due, stored)
  redis.call('ZADD', SCHEDULED, string.format('%.0f', due), id)
  redis.call('HSET', SCHEDULED_DATA, id, stored)
  redis.call('HSET', INDEX, id, 's')
end
