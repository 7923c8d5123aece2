#!lua flags=allow-oom
-- Makes dead jobs ready again, also when memory is full: the letter that goes is about as large as
-- the envelope that comes, for it holds the envelope and the last error of the job.
-- KEYS: the queue's; then the result key of each job.
-- ARGV: 2 priority, or '' for the old one; then for each job: id, died ms, envelope.
-- Result: one character for each job: '1' ready, '0' no letter of this death, 'x' a living job
--   has the id.
local FIELDS, FIRST = 3, 3
local count = (#ARGV - FIRST + 1) / FIELDS
if count ~= math.floor(count) or #KEYS ~= OWN_KEYS + count then
  return redis.error_reply('ERR bad length')
end
local wanted = tonumber(ARGV[2])
if ARGV[2] ~= '' and not READY[(wanted or -1) + 1] then
  return redis.error_reply('ERR bad priority')
end
for job = 1, count do
  if not tonumber(ARGV[FIRST + (job - 1) * FIELDS + 1]) then
    return redis.error_reply('ERR bad time')
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
for job = 1, count do
  local at = FIRST + (job - 1) * FIELDS
  local id, died = ARGV[at], redis.call('ZSCORE', DEAD, ARGV[at])
  if not died or time_of(died) ~= tonumber(ARGV[at + 1]) then
    answer[job] = '0'
  elseif redis.call('HEXISTS', INDEX, id) == 1 then
    answer[job] = 'x'
  else
    answer[job] = '1'
    local priority = wanted or priority_of(redis.call('HGET', DEAD_DATA, id) or '')
    local place = append_ready(priority, id, ARGV[at + 2])
    -- The letter stays, for it is all that is left of the job.
    -- rule:5 a letter stays while its job cannot be made ready
    if type(place) == 'table' then
      failed = place
      break
    end
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
return table.concat(answer)
