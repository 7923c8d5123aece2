#!lua flags=allow-oom
-- Makes dead jobs ready again, also when memory is full: the letter that goes is about as large as
-- the envelope that comes, for it holds the envelope and the last error of the job.
-- KEYS: the queue's; then the result key of each job.
-- ARGV: 2 priority, or '' for the old one; then for each job: id, died ms, envelope, the unique key
--   that it takes again as '<mode> <ttl ms> <key>' or '', and the gate that it passes again or ''.
-- Result: {one character for each job, holders}: '1' ready, '0' no letter of this death, 'x' a
--   living job has the id, 'k' another job holds its key. Of those the holders, in their order.
local FIELDS, FIRST = 5, 3
local count = (#ARGV - FIRST + 1) / FIELDS
if count ~= math.floor(count) or #KEYS ~= OWN_KEYS + count then
  return redis.error_reply('ERR bad length')
end
local wanted = tonumber(ARGV[2])
if ARGV[2] ~= '' and not READY[(wanted or -1) + 1] then
  return redis.error_reply('ERR bad priority')
end
local is_unique = false
for job = 1, count do
  if not tonumber(ARGV[FIRST + (job - 1) * FIELDS + 1]) then
    return redis.error_reply('ERR bad time')
  end
  local terms = ARGV[FIRST + (job - 1) * FIELDS + 3]
  if terms ~= '' and not string.match(terms, '^[fs] %d+ .') then
    return redis.error_reply('ERR bad terms')
  end
  is_unique = is_unique or terms ~= ''
  local gate = ARGV[FIRST + (job - 1) * FIELDS + 4]
  if gate ~= '' then
    local gates = gates_anyway(store_now())
    if not gates.read_gate(gate) then return redis.error_reply('ERR bad gate') end
    gates.check()
  end
end

-- Whatever is written behind a job that is ready again is checked first: after an error the job
-- would be ready and dead, and could be revived once more.
redis.call('ZCARD', DEAD)
-- rule:5 a letter is revived only where it can be dropped
redis.call('HEXISTS', DEAD_DATA, '')
-- rule:5 a letter is revived only where its notes are known again
redis.call('SISMEMBER', NOTED, '')
for slot = 1, 3 do
  -- rule:5 a letter is revived only where its end can be forgotten
  redis.call('HEXISTS', KNOWN[slot], '')
end

local now, answer, gone, index, failed = store_now(), {}, {}, {}, nil
local locks, holders = is_unique and open_locks(now), {}
if locks then
  for slot = 1, 4 do redis.call('XLEN', READY[slot]) end
  locks.check()
end
-- Whether another job holds the key of this one. If not, it is its own from now on.
local function has_other_holder(id, terms)
  if terms == '' then return false end
  local mode, ttl, key = string.match(terms, '^(.) (%d+) (.*)$')
  -- rule:21 a dead job whose key is taken is not revived
  local holder = locks.again(id, mode, ttl, key)
  holders[#holders + 1] = holder
  return holder ~= nil
end

for job = 1, count do
  local at = FIRST + (job - 1) * FIELDS
  local id, died = ARGV[at], redis.call('ZSCORE', DEAD, ARGV[at])
  if not died or time_of(died) ~= tonumber(ARGV[at + 1]) then
    answer[job] = '0'
  elseif redis.call('HEXISTS', INDEX, id) == 1 then
    answer[job] = 'x'
  elseif locks and has_other_holder(id, ARGV[at + 3]) then
    answer[job] = 'k'
  else
    answer[job] = '1'
    local priority = wanted or priority_of(redis.call('HGET', DEAD_DATA, id) or '')
    -- rule:39 a job that is revived passes its limits again
    if ARGV[at + 4] ~= '' then gates_anyway(now).note(id, ARGV[at + 4]) end
    local place = make_ready(priority, id, ARGV[at + 2], now)
    -- The letter stays, for it is all that is left of the job.
    -- rule:5 a letter stays while its job cannot be made ready
    if type(place) == 'table' then
      if locks then locks.ended({id}) end
      failed = place
      break
    end
    -- Now, for the next one of the list may want the same key.
    if locks then redis.call('HSET', INDEX, id, place) end
    -- Its notes are those of the living job again.
    local base = string.sub(WAKE, 1, -5)
    local moved = redis.pcall('RENAME', base .. 'dead:notes:' .. id, base .. 'notes:' .. id)
    if not moved.err then redis.call('SADD', NOTED, id) end
    -- Now and not at the end, for the list may name an id twice.
    drop_letters({id})
    redis.call('UNLINK', KEYS[OWN_KEYS + job])
    -- The field '' says until when a hash of known ids counts.
    if id ~= '' then gone[#gone + 1] = id end
    index[#index + 1] = id
    index[#index + 1] = place
  end
end
-- These ids must not be remembered as ended, or the old end would stand beside the next one.
for slot = 1, 3 do in_chunks('HDEL', KNOWN[slot], gone) end
in_chunks('HSET', INDEX, index)
if #index > 0 then
  tally(now, 'e', #index / 2)
  wake()
end
if failed then return failed end
return {table.concat(answer), holders}
