#!lua flags=allow-oom
-- Gives jobs that have not started another envelope, another time, or both. A job that was ready
-- goes behind all others of its priority.
-- KEYS: the queue's.
-- ARGV: 2 and on, for each job: id; the SHA-1 of the envelope that the new one was made from; the
--   time in ms at which it shall be ready, or '' to leave it; the new envelope.
-- Result: for each job 'done', 'gone', 'running', or 'moved' when its envelope is another one by
--   now, or somebody wants to stop it.
local FIELDS, FIRST = 4, 2
for at = FIRST, #ARGV, FIELDS do
  if ARGV[at + 2] ~= '' and not tonumber(ARGV[at + 2]) then
    return redis.error_reply('ERR bad time')
  end
end
check_waiting()
redis.call('HEXISTS', CANCEL, '')
local now, answer, signals, failed = store_now(), {}, false, nil
local locks = open_locks(now)
locks.check()

-- What is stored of a job that waits, with its priority in front.
local function stored_at(id, place)
  if place == 's' then return redis.call('HGET', SCHEDULED_DATA, id) or '' end
  if place == 'h' then return redis.call('HGET', UNIQUE_HELD, id) or '' end
  if place == 'g' then return redis.call('HGET', string.sub(WAKE, 1, -5) .. 'gated:data', id) or '' end
  if place == 'b' then
    local _, found = behind_of(id)
    return found or ''
  end
  local slot, entry = tonumber(string.sub(place, 1, 1)) + 1, string.sub(place, 3)
  local found = redis.call('XRANGE', READY[slot], entry, entry)[1]
  return (slot - 1) .. (found and found[2][2] or '')
end

local function change(id, place, expected, due, envelope)
  local stored = stored_at(id, place)
  -- rule:20 a job that was changed meanwhile is not changed
  if redis.sha1hex(string.sub(stored, 2)) ~= expected then return 'moved' end
  -- Only who takes it from those that were given back is told to stop it.
  -- rule:8 a job that somebody wants to stop is not stored anew
  if redis.call('HEXISTS', CANCEL, id) == 1 then return 'moved' end
  local priority = priority_of(stored)
  if place == 'h' then
    locks.change(id, priority .. envelope, due)
    return 'done'
  end
  if place == 'b' then
    change_behind(id, priority .. envelope, due)
    return 'done'
  end
  if place == 's' and not due then
    redis.call('HSET', SCHEDULED_DATA, id, priority .. envelope)
    return 'done'
  end
  if due and due > now then
    local before = now
    if place == 's' then
      before = math.max(now, time_of(redis.call('ZSCORE', SCHEDULED, id) or '0'))
    end
    -- rule:21 a lock lasts for longer when its job is put off
    locks.prolong(id, due - before)
    take_out(id)
    local first = next_due()
    put_off(id, due, priority .. envelope)
    -- A sleeping worker must learn of a new earliest time, or it sleeps past it.
    signals = signals or not first or due < first
    return 'done'
  end
  -- A lane has always room, and a job stands in one once.
  if place == 'g' then take_out(id) end
  local there = make_ready(priority, id, envelope, now)
  if type(there) == 'table' then
    failed = there
    return 'failed'
  end
  -- Only now, for a job that cannot be stored anew must stay as it is.
  if place ~= 'g' then take_out(id) end
  redis.call('HSET', INDEX, id, there)
  signals = true
  return 'done'
end

for at = FIRST, #ARGV, FIELDS do
  local id, place = ARGV[at], redis.call('HGET', INDEX, ARGV[at])
  local verdict = obstacle(id, place, '')
  if not verdict then
    verdict = change(id, place, ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3])
  end
  if failed then break end
  answer[#answer + 1] = verdict
end
if signals then wake() end
return failed or answer
