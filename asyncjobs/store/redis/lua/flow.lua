#!lua flags=allow-oom
-- Since when the oldest ready job is ready, the counters of the last few minutes, when the first
-- scheduled job is due, and what waits for other queues.
-- KEYS: the queue's.
-- ARGV: none of its own.
-- Result: {now, ready since in ms or -1, {'<minute>:<code>', number, ...}, due in ms or -1, how many
--   entries the outbox keeps, the ms of the first that is not relayed or -1}.
local oldest = -1

local function see(entry)
  local ms = entry and tonumber(string.match(entry, '^%d+'))
  if ms and (oldest < 0 or ms < oldest) then oldest = ms end
end

for _, place in ipairs(redis.call('SMEMBERS', RETURNED)) do
  local stream = READY[tonumber(string.sub(place, 1, 1))]
  local returned = redis.pcall('XPENDING', stream, GROUP, '-', '+', 1, consumer_at(place))
  if not returned.err and returned[1] then see(returned[1][1]) end
end
local paused = redis.call('HGETALL', PAUSED)
for position = 1, #paused, 2 do
  for slot = 1, 4 do
    local consumer = ASIDE .. paused[position]
    local aside = redis.pcall('XPENDING', READY[slot], GROUP, '-', '+', 1, consumer)
    if not aside.err and aside[1] then see(aside[1][1]) end
  end
end
for slot = 1, 4 do
  if redis.call('XLEN', READY[slot]) > 0 then
    -- Behind the last entry that was handed out, or from the start when none ever was.
    local from, groups = '-', redis.pcall('XINFO', 'GROUPS', READY[slot])
    if not groups.err and groups[1] then
      for field = 1, #groups[1], 2 do
        if groups[1][field] == 'last-delivered-id' then from = '(' .. groups[1][field + 1] end
      end
    end
    local fresh = redis.call('XRANGE', READY[slot], from, '+', 'COUNT', 1)[1]
    see(fresh and fresh[1])
  end
end
-- Jobs with a gate are ready while none of them is held.
local base = string.sub(WAKE, 1, -5)
if redis.call('EXISTS', base .. 'barred', base .. 'later') == 0 then
  local waits = redis.pcall('ZRANGE', base .. 'gated:since', 0, 0, 'WITHSCORES')
  if waits[2] then see(waits[2] .. '-0') end
end
local first = redis.call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')
local posted, since = redis.call('XLEN', base .. 'outbox'), -1
if posted > 0 then
  -- Behind the last one that was relayed: those before it are kept for a look only.
  local at = redis.call('HGET', base .. 'outbox:state', 'at') or '0-0'
  local waits = redis.call('XRANGE', base .. 'outbox', '(' .. at, '+', 'COUNT', 1)[1]
  since = waits and tonumber(string.match(waits[1], '^%d+')) or -1
end
return {store_now(), oldest, redis.call('HGETALL', STATS), tonumber(first[2]) or -1, posted, since}
