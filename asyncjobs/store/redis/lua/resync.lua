#!lua flags=allow-oom
-- rule:6 a resync is not refused at maxmemory
-- Says after a lost reply what was applied last, and which entries the lease holds. From now on
-- exchanges and offers up to this sequence are refused when they arrive.
-- KEYS: the queue's.
-- ARGV: 2 lease id; 3 sequence; 4 how many entries of one priority at the most.
-- Result: {'lost'} | {'stale', last} | {'ok', last applied, {entry ids of each priority}}.
local lease, sequence, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if not redis.call('ZSCORE', WORKERS, lease) then return {'lost'} end
local seen, applied = read_sequence(lease)
if sequence <= seen then return {'stale', seen} end
-- rule:4 what arrives after a resync is refused
-- rule:4 a resync tells the last exchange applied, not the last seen
-- rule:4 a resync refuses offers
redis.call('HSET', SEQUENCE, lease, sequence .. ' ' .. applied, lease .. PARKED, sequence)
local held = {{}, {}, {}, {}, {}}
for slot = 1, 5 do
  local from = '-'
  while #held[slot] < limit do
    local pending = redis.pcall('XPENDING', READY[slot], GROUP, from, '+', CHUNK, lease)
    if pending.err or #pending == 0 then break end
    for position = 1, #pending do held[slot][#held[slot] + 1] = pending[position][1] end
    if #pending < CHUNK then break end
    from = '(' .. pending[#pending][1]
  end
end
return {'ok', applied, held}
