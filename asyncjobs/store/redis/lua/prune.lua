#!lua flags=allow-oom
-- Drops dead letters that are over their age, number or bytes, the oldest first. Also drops ids
-- that are remembered past their time, unique keys that nobody holds any more, and what workers of
-- an older release have left.
-- KEYS: the queue's.
-- ARGV: 2 max_age_ms; 3 max_count; 4 max_bytes; 5 how many dead letters at the most.
-- Result: {how many dead letters were dropped, the ids of flows that were opened and not started in
--   time}.
local now, limit = store_now(), tonumber(ARGV[5])
local base = string.sub(WAKE, 1, -5)
local oldest, max_count, max_bytes = now - tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local count = redis.call('ZCARD', DEAD)
-- A foreign writer may have made it something else.
local bytes = tonumber(redis.pcall('GET', DEAD_BYTES) or '0') or 0
local drop, is_done = {}, count == 0
while not is_done and #drop < limit do
  local first = #drop
  local last = math.min(first + 100, limit) - 1
  local found = redis.call('ZRANGE', DEAD, first, last, 'WITHSCORES')
  for position = 1, #found, 2 do
    local is_old = tonumber(found[position + 1]) < oldest
    if not is_old and count - #drop <= max_count and bytes <= max_bytes then
      is_done = true
      break
    end
    drop[#drop + 1] = found[position]
    bytes = bytes - letter_bytes(found[position])
  end
  is_done = is_done or #found < 2 * (last - first + 1)
end
drop_letters(drop)

for slot = 1, 3 do
  local until_ms = redis.call('HGET', KNOWN[slot], '')
  if until_ms and known_until(KNOWN[slot], until_ms, now) <= now then
    redis.call('UNLINK', KNOWN[slot])
  end
end
if redis.call('EXISTS', LARGEST) == 1 then
  local _, last_ms = largest_noted()
  local is_gone = true
  for slot = 1, 4 do
    local oldest = redis.call('XRANGE', READY[slot], '-', '+', 'COUNT', 1)[1]
    -- rule:11 a large job that is gone slows down no other one
    -- rule:11 a large job that may be there is not forgotten
    if oldest and tonumber(string.match(oldest[1], '^%d+')) <= last_ms then is_gone = false end
  end
  if is_gone then redis.call('UNLINK', LARGEST) end
end

-- Somebody has removed a pause by hand. What was set aside for it would wait for ever.
for slot = 1, 4 do
  local pending = redis.pcall('XPENDING', READY[slot], GROUP)
  for _, held in ipairs(not pending.err and pending[4] or {}) do
    local name = string.match(held[1], '^' .. ASIDE .. '(.*)$')
    -- rule:18 what was set aside comes back without its pause
    if name and redis.pcall('HEXISTS', PAUSED, name) == 0 then
      return_pending(held[1], MOST_MOVED, false)
    end
  end
end

-- Windows that are over, and locks of jobs that somebody has deleted by hand.
if redis.call('EXISTS', UNIQUE_OF, UNIQUE_WINDOWS) > 0 then
  local locks = open_locks(now)
  if pcall(locks.check) then locks.prune(1000) end
  if locks.is_ready or locks.is_earlier then wake() end
end

-- Permits of those who are no job, and what is kept of keys of limits that nobody uses.
local gates = gates_anyway(now)
if pcall(gates.check) then
  gates.drop_holders(1000)
  prune_limits(gates, now, 1000)
  -- A key where nothing is enqueued has not heard of a faster rate in code.
  -- rule:34 another rate of code comes to all keys of its limit
  gates.look_again(1000)
  if gates.is_ready or gates.is_earlier then wake() end
end
local unstarted = {}
if redis.call('EXISTS', base .. 'flows:over') == 1 then
  local flows = open_flows(now)
  -- At most so many, and each is freed in the background.
  local over = redis.call('ZRANGE', base .. 'flows:over', '-inf', string.format('%.0f', now),
    'BYSCORE', 'LIMIT', 0, math.min(limit, 100))
  for position = 1, #over do
    -- rule:36 a flow that nobody has started in time is told of
    if flows.state(over[position]) == 'opened' then
      unstarted[#unstarted + 1] = over[position]
    else
      flows.drop(over[position])
    end
  end
end
-- Jobs behind barriers that have fallen, where no worker exchanges.
if redis.call('HEXISTS', ENDS, '') == 1 then wake() end

-- The rest is about workers of an older release. Keys with a wrong type are passed over.
-- Such a worker ends a job that waits for an event, and does not know of that.
local number = redis.pcall('ZCARD', WAITS)
local waits = {}
if type(number) == 'number' and number > 0 then
  -- Another hundred each time.
  waits = redis.call('ZRANGE', WAITS, now % number, now % number + 99)
end
for position = 1, #waits do
  local id = string.match(waits[position], '^[^%z]*%z[^%z]*%z(.*)$') or ''
  if redis.pcall('HGET', base .. 'notes:' .. id, 'waits') ~= waits[position] then
    redis.call('ZREM', WAITS, waits[position])
  end
end
-- 1 or 0, or an error.
local function lives(id) return redis.pcall('HEXISTS', INDEX, id) end

-- Progress in the key of layout 1 becomes a note of its job. Without the job it is dropped. It is
-- newer than a note, for a note removes it. Fields are picked at random: a scan from the start of a
-- large hash would find the same few each time.
-- rule:11 what an older release has kept goes in steps, all of it
local kept = redis.pcall('HRANDFIELD', PROGRESS, 1000, 'WITHVALUES')
for position = 1, #kept, 2 do
  local id, found = kept[position], lives(kept[position])
  local is_noted = found == 1 and type(redis.pcall('SADD', NOTED, id)) == 'number'
  if is_noted then redis.pcall('HSET', base .. 'notes:' .. id, 'progress', kept[position + 1]) end
  if is_noted or found == 0 then redis.call('HDEL', PROGRESS, id) end
end
-- A worker of an older release knows no notes, so it leaves those of a job that it ends.
local noted, ended_ids = redis.pcall('SRANDMEMBER', NOTED, 100), {}
for position = 1, #noted do
  if lives(noted[position]) == 0 then ended_ids[#ended_ids + 1] = noted[position] end
end
if #ended_ids > 0 then drop_notes(ended_ids) end
-- It leaves those of a letter that it drops, too.
local ownerless = redis.pcall('HRANDFIELD', DEAD_NOTED, 100, 'WITHVALUES')
for position = 1, #ownerless, 2 do
  local id = ownerless[position]
  if redis.call('HEXISTS', DEAD_DATA, id) == 0 then
    redis.call('UNLINK', base .. 'dead:notes:' .. id)
    redis.call('HDEL', DEAD_NOTED, id)
    count_letters(-(tonumber(ownerless[position + 1]) or 0))
  end
end

-- When somebody has removed the last letters by hand, their bytes are still counted.
if redis.call('EXISTS', DEAD) == 0 then redis.call('UNLINK', DEAD_BYTES) end
return {#drop, unstarted}
