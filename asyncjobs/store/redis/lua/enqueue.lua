#!lua
-- Stores a batch of jobs, or repeats the answer that was given to the token of the batch.
-- KEYS: the queue's; then the token's answer; then the result key of each job whose id was given.
-- ARGV: 2 token_ttl_ms; then for each job: id, priority, due, envelope. The priority is
--   followed by 'n' when the id was made for this job: no job with it can have ended before.
--   `due` is '' for ready at once, '+<ms>' for a delay, '<ms>' for a time since the epoch.
-- Result: one character for each job: '1' new, '0' the id was there.
local ANSWER, token_ttl = KEYS[OWN_KEYS + 1], tonumber(ARGV[2])
local FIELDS, FIRST = 4, 3
-- Everything is checked before the first write, for an error later does not roll back.
local now
local ids, asked, due_ms = {}, {}, {}
local STREAMS = {['0'] = READY[1], ['1'] = READY[2], ['2'] = READY[3], ['3'] = READY[4]}
-- The priority in each word, and whether ids with it may be known. Each word is read once, for
-- there are few words and many jobs.
local priorities, may_be_known = {}, {}
for at = FIRST, #ARGV, FIELDS do
  local job, word, due = #ids + 1, ARGV[at + 1], ARGV[at + 2]
  if not priorities[word] then
    local priority = string.sub(word, 1, 1)
    if not STREAMS[priority] then return redis.error_reply('ERR bad priority') end
    priorities[word], may_be_known[word] = priority, string.sub(word, 2, 2) ~= 'n'
  end
  if due ~= '' then
    local ms = tonumber(due)
    -- rule:5 jobs are checked before the first write
    if not ms then return redis.error_reply('ERR bad due time') end
    now = now or store_now()
    if string.sub(due, 1, 1) == '+' then ms = now + ms end
    if ms > now then due_ms[job] = ms end
  end
  ids[job] = ARGV[at]
  if may_be_known[word] then asked[#asked + 1] = ARGV[at] end
end

local earliest
if next(due_ms) then
  earliest = tonumber(redis.call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')[2] or 'inf')
end

-- When all ids were made for this batch, the answer is known before: all jobs are new.
local given
if #asked == 0 then
  given = redis.call('SET', ANSWER, string.rep('1', #ids), 'NX', 'GET', 'PX', token_ttl)
else
  given = redis.call('GET', ANSWER)
end
-- rule:4 a batch sent again has the answer of the first time
if given then
  -- A write, so that a WAIT behind this script waits for the replicas.
  redis.call('PEXPIRE', ANSWER, token_ttl)
  return given
end

local taken = {}
if #asked > 0 then
  now = now or store_now()
  -- rule:4 a finished id stays known
  taken = recall(now, asked)
end
for first = 1, #asked, CHUNK do
  local last = math.min(first + CHUNK - 1, #asked)
  local found = redis.call('HMGET', INDEX, unpack(asked, first, last))
  for offset = 1, #found do
    if found[offset] then taken[asked[first + offset - 1]] = true end
  end
end

local answer, index, signals, entry, failed = {}, {}, false, nil, nil
local stale, given_ids, largest = {}, 0, 0
for job = 1, #ids do
  local last = FIRST + job * FIELDS - 1
  local id, due, priority, envelope = ids[job], due_ms[job], priorities[ARGV[last - 2]], ARGV[last]
  local was_given = may_be_known[ARGV[last - 2]]
  if was_given then given_ids = given_ids + 1 end
  if taken[id] then
    answer[job] = '0'
  else
    taken[id], answer[job] = true, '1'
    index[#index + 1] = id
    -- A result may be kept for longer than the id. It would be taken for that of the new job.
    -- rule:5 an id that is used again is rid of the result of the job before
    if was_given then stale[#stale + 1] = KEYS[OWN_KEYS + 1 + given_ids] end
    if due then
      index[#index + 1] = 's'
      failed = redis.pcall('HSET', SCHEDULED_DATA, id, priority .. envelope)
      if type(failed) == 'table' then break end
      failed = redis.pcall('ZADD', SCHEDULED, string.format('%.0f', due), id)
      if type(failed) == 'table' then break end
      -- A sleeping worker must learn of a new earliest time, or it sleeps past it.
      -- rule:1 a new earliest due time signals
      if due < earliest then signals = true end
    else
      entry = redis.pcall('XADD', STREAMS[priority], '*', id, envelope)
      if type(entry) == 'table' then
        failed = entry
        break
      end
      index[#index + 1] = priority .. ':' .. entry
      largest = math.max(largest, #envelope)
      signals = true
    end
  end
end
for first = 1, #index, CHUNK do
  if type(failed) == 'table' then break end
  local last = math.min(first + CHUNK - 1, #index)
  failed = redis.pcall('HSET', INDEX, unpack(index, first, last))
end
if type(failed) == 'table' then
  -- A caller whose batch was refused sends it again. So nothing of it may stay, and its token must
  -- not say that it is stored.
  redis.call('UNLINK', ANSWER)
  for position = 1, #index, 2 do
    local id, place = index[position], index[position + 1]
    if place == 's' then
      redis.pcall('ZREM', SCHEDULED, id)
      redis.pcall('HDEL', SCHEDULED_DATA, id)
    elseif place then
      -- rule:4 a batch that was refused leaves nothing
      redis.pcall('XDEL', STREAMS[string.sub(place, 1, 1)], string.sub(place, 3))
    end
    redis.pcall('HDEL', INDEX, id)
  end
  return failed
end
note_large(largest, entry)
for first = 1, #stale, CHUNK do
  redis.call('UNLINK', unpack(stale, first, math.min(first + CHUNK - 1, #stale)))
end
if entry and ARGV[1] == '' then
  -- The time is in the id of the entry: one command less for most batches.
  now = tonumber(string.match(entry, '^%d+'))
end
if #index > 0 then tally(now or store_now(), 'e', #index / 2) end
-- rule:1 new ready work pushes a token
if signals then wake() end
answer = table.concat(answer)
if #asked > 0 then redis.call('SET', ANSWER, answer, 'PX', token_ttl) end
return answer
