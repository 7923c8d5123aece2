#!lua flags=allow-oom
-- Drops dead letters over their age or number, and what is remembered past its time.
-- KEYS: the queue's.
-- ARGV: 2 max_age_ms; 3 max_count; 4 how many dead letters at the most.
-- Result: how many dead letters were dropped.
local now, limit = store_now(), tonumber(ARGV[4])
for slot = 1, 3 do
  local until_ms = redis.call('HGET', KNOWN[slot], '')
  if until_ms and known_until(KNOWN[slot], until_ms, now) <= now then
    redis.call('UNLINK', KNOWN[slot])
  end
end
if redis.call('EXISTS', LARGEST) == 1 then
  local entries = 0
  for slot = 1, 4 do entries = entries + redis.call('XLEN', READY[slot]) end
  if entries == 0 then redis.call('UNLINK', LARGEST) end
end
local oldest = string.format('%.0f', now - tonumber(ARGV[2]))
local drop = redis.call('ZRANGE', DEAD, '-inf', '(' .. oldest, 'BYSCORE', 'LIMIT', 0, limit)
local excess = redis.call('ZCARD', DEAD) - #drop - tonumber(ARGV[3])
if excess > 0 and #drop < limit then
  local last = #drop + math.min(excess, limit - #drop) - 1
  local extra = redis.call('ZRANGE', DEAD, #drop, last)
  for position = 1, #extra do drop[#drop + 1] = extra[position] end
end
in_chunks('ZREM', DEAD, drop)
in_chunks('HDEL', DEAD_DATA, drop)
return #drop
