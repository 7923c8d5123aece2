#!lua
-- Stores a batch of jobs, or repeats the answer that the batch's token was given.
-- KEYS: 1-24 the queue; 25 the token's answer.
-- ARGV: 2 token_ttl_ms; then for each job: id, priority, due, envelope. `due` is '' for
--   ready at once, '+<ms>' for a delay, '<ms>' for a time since the epoch.
-- Result: one character a job: '1' new, '0' an id that was there.
local ANSWER, token_ttl = KEYS[OWN_KEYS + 1], tonumber(ARGV[2])
local FIELDS, FIRST = 4, 3
local given = redis.call('GET', ANSWER)
if given then
  -- Written again, so that a WAIT behind this call has something to wait for.
  redis.call('PEXPIRE', ANSWER, token_ttl)
  return given
end

local now, count = store_now(), (#ARGV - FIRST + 1) / FIELDS
local ids, due_ms = {}, {}
for job = 1, count do
  local at = FIRST + (job - 1) * FIELDS
  local priority, due = tonumber(ARGV[at + 1]), ARGV[at + 2]
  if not READY[(priority or -1) + 1] then return redis.error_reply('ERR bad priority') end
  if due ~= '' then
    local ms = tonumber(due)
    if not ms then return redis.error_reply('ERR bad due time') end
    if string.sub(due, 1, 1) == '+' then ms = now + ms end
    due_ms[job] = ms
  end
  ids[job] = ARGV[at]
end

local taken = recall(now, ids)
for first = 1, count, CHUNK do
  local found = redis.call('HMGET', INDEX, unpack(ids, first, math.min(first + CHUNK - 1, count)))
  for offset = 1, #found do
    if found[offset] then taken[ids[first + offset - 1]] = true end
  end
end

local earliest = redis.call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')[2]
earliest = earliest and tonumber(earliest) or math.huge
local answer, index, call = {}, {}, false
for job = 1, count do
  local id, at = ids[job], FIRST + (job - 1) * FIELDS
  if taken[id] then
    answer[job] = '0'
  else
    taken[id], answer[job] = true, '1'
    index[#index + 1] = id
    if due_ms[job] and due_ms[job] > now then
      redis.call('ZADD', SCHEDULED, string.format('%.0f', due_ms[job]), id)
      redis.call('HSET', SCHEDULED_DATA, id, ARGV[at + 1] .. ARGV[at + 3])
      index[#index + 1] = 's'
      -- A sleeping worker must learn of a new earliest time, or it sleeps past it.
      if due_ms[job] < earliest then call = true end
    else
      index[#index + 1] = append_ready(tonumber(ARGV[at + 1]), id, ARGV[at + 3])
      call = true
    end
  end
end
in_chunks('HSET', INDEX, index)
tally(now, 'e', #index / 2)
if call then wake() end
answer = table.concat(answer)
redis.call('SET', ANSWER, answer, 'PX', token_ttl)
return answer
