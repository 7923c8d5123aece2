#!lua flags=allow-oom
-- rule:6 an offer is not refused at maxmemory
-- Hands out new jobs behind the wait for a signal: exchange.lua for the most common wake-up. Rare
-- cases are left to an exchange, and the answer asks for one: due jobs and jobs that were given
-- back. Some of these are suspects, and when the offer was sent nobody knew what else would run by
-- now.
-- KEYS: the queue's.
-- ARGV: 2 lease id; 3 sequence; 4 slots.
-- Result: {'lost', now} | {'stale', last sequence} | {'ok', now, next due or -1, 1 when ready
--   jobs are left and 2 when the queue is paused, then for each job priority, entry, id,
--   envelope}.
local lease, sequence, wanted = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

-- rule:4 an offer takes nothing for a lost lease
if not redis.call('ZSCORE', WORKERS, lease) then return {'lost', store_now()} end
-- Offers are numbered apart, for exchanges that were sent later come and go while one waits here.
-- rule:4 an offer makes no exchange stale
local number = lease .. PARKED
local last = read_sequence(number)
-- rule:4 an offer has an effect once
if sequence <= last then return {'stale', last} end

redis.call('HSET', SEQUENCE, number, ARGV[3])
local answer = {'ok', store_now(), next_due() or -1, 0}
local rare = redis.call('EXISTS', RETURNED, LARGEST, PAUSED, UNIQUE_OF, GATED, ENDS) > 0
local paused = rare and redis.call('EXISTS', PAUSED) == 1
if paused and not may_hand_out() then
  -- rule:18 an offer hands out nothing of a paused queue
  answer[4] = 2
  return answer
end
-- Which jobs may be handed out is known to an exchange. This worker has free slots, so it asks.
-- rule:18 an offer leaves paused functions to an exchange
if paused then wanted = 0 end
local locks = rare and redis.call('EXISTS', UNIQUE_OF) == 1 and open_locks(answer[2])
if locks then locks.check() end
local has_lanes = false
if rare and gates_here(answer[2]) then
  -- Lanes are left to an exchange.
  local due_ms = GATES.next_due(next_due())
  answer[3] = due_ms or -1
  -- The worker asks at once when lanes are in line.
  has_lanes = GATES.first_in_line(0) ~= nil or due_ms ~= nil and due_ms <= answer[2]
end
local slot, step, bytes = 1, rare and portion(wanted) or wanted, 0
while wanted > 0 and slot <= 4 do
  local asked, got = math.min(step, wanted), 0
  if redis.call('XLEN', READY[slot]) > 0 then
    local entries, size = read_new(slot, lease, asked), #answer
    got = #entries
    -- rule:21 an offer notes which unique jobs have started
    if locks then locks.begin(entries) end
    for position = 1, #entries do
      local entry, fields = entries[position][1], entries[position][2]
      answer[size + 1], answer[size + 2] = slot - 1, entry
      answer[size + 3], answer[size + 4] = fields[1], fields[2]
      size, bytes = size + 4, bytes + #fields[2]
    end
    -- rule:11 an offer stops after 4 MiB
    wanted = bytes < MAX_BYTES and wanted - got or 0
  end
  if got < asked and wanted > 0 then slot = slot + 1 end
end

local is_left = false
if rare and redis.call('EXISTS', RETURNED) == 1 then
  -- Each place is looked at, for jobs that were given back may have been cancelled since. A signal
  -- for nothing would make an idle worker signal itself again and again.
  -- rule:7 an offer reports jobs that were given back
  -- rule:1 an offer signals nothing that was cancelled since
  is_left = has_returned()
end
is_left = is_left or paused and is_resuming() or has_lanes
-- rule:36 an offer leaves what a fallen barrier lets go to an exchange
is_left = is_left or rare and redis.call('HEXISTS', ENDS, '') == 1
while wanted == 0 and slot <= 4 and not is_left do
  is_left = has_new(slot)
  slot = slot + 1
end
if is_left then
  answer[4] = 1
  -- With a slot left this worker asks at once, and that exchange signals for what it leaves. A
  -- signal from here would run through all idle workers before that. Only suspects may need them.
  -- rule:1 an offer passes the signal on when all slots are taken
  -- rule:1 an offer keeps the signal when its worker asks by itself
  if wanted == 0 and not paused or redis.call('EXISTS', CRASHES) == 1 then wake() end
end
return answer
