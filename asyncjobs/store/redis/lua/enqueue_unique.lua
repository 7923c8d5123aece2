#!lua
-- Stores a batch with unique jobs in it, or repeats the answer that was given to its token:
-- enqueue.lua for what few batches need.
-- KEYS: the queue's; then the token's answer; then the result key of each job whose id was given.
-- ARGV: 2 token_ttl_ms; then for each job: id, priority, due and envelope as in enqueue.lua, and
--   its terms: '' for a job that is not unique, else '<until><conflict> <ttl ms> <latest ms, or 0>
--   <key>'. `until` is a mode of unique.lua; `conflict` is '-' for the job that is there, 'r' to
--   replace one that has not started, 'h' to wait for one that has, too, 'q' to do only that.
-- Result: for each job '<how><length>:<id>', in one text: '1' new, '0' there, 'r' replaced, 'h'
--   held; the id is that of the job in its place, or empty.
local ANSWER, token_ttl = KEYS[OWN_KEYS + 1], tonumber(ARGV[2])
local FIELDS, FIRST = 5, 3
local WORDS = {there = '0', replaced = 'r', held = 'h'}
-- Everything is checked before the first write, for an error later does not roll back.
local now, asked, dues = store_now(), {}, {}
for at = FIRST, #ARGV, FIELDS do
  local word, due, terms = ARGV[at + 1], ARGV[at + 2], ARGV[at + 4]
  local stream = READY[(tonumber(string.sub(word, 1, 1)) or -1) + 1]
  local ms = tonumber(due ~= '' and due or '0')
  if not stream then return redis.error_reply('ERR bad priority') end
  if not ms then return redis.error_reply('ERR bad due time') end
  if terms ~= '' and not string.match(terms, '^[fsw][-rhq] %d+ %d+ .') then
    return redis.error_reply('ERR bad terms')
  end
  if string.sub(due, 1, 1) == '+' then ms = now + ms end
  dues[at] = math.max(ms, now)
  if string.sub(word, 2, 2) ~= 'n' then asked[#asked + 1] = ARGV[at] end
end
for slot = 1, 4 do redis.call('XLEN', READY[slot]) end
local locks = open_locks(now)
locks.check()

local given = redis.call('GET', ANSWER)
-- rule:4 a batch with unique jobs that is sent again has the answer of the first time
if given then
  -- A write, so that a WAIT behind this script waits for the replicas.
  redis.call('PEXPIRE', ANSWER, token_ttl)
  return given
end
local taken = recall(now, asked)

local answer, stored, given_ids = {}, 0, 0
for at = FIRST, #ARGV, FIELDS do
  local id, word, envelope, terms = ARGV[at], ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
  local priority, result = tonumber(string.sub(word, 1, 1)), nil
  if string.sub(word, 2, 2) ~= 'n' then
    given_ids = given_ids + 1
    result = KEYS[OWN_KEYS + 1 + given_ids]
  end
  local how, place, lock = nil, '', nil
  -- The id comes first: the same id is the same job, whatever it holds.
  if taken[id] or redis.call('HEXISTS', INDEX, id) == 1 then
    how, place = 'there', id
  elseif terms ~= '' then
    lock = locks.claim(id, terms, dues[at])
    if lock then how, place = locks.meet(lock, id, terms, priority, envelope, dues[at]) end
  end
  if not how then redis.call('HSET', INDEX, id, locks.put(id, priority, envelope, dues[at])) end
  if not how or how == 'held' then
    stored = stored + 1
    -- A result may be kept for longer than the id. It would be taken for that of the new job.
    if result then redis.call('UNLINK', result) end
  end
  answer[#answer + 1] = (WORDS[how] or '1') .. #place .. ':' .. place
end
answer = table.concat(answer)
-- Before what may still fail: a batch that is sent again finds its answer.
redis.call('SET', ANSWER, answer, 'PX', token_ttl)
tally(now, 'e', stored)
-- rule:1 new unique work pushes a token
if locks.is_ready or locks.is_earlier then wake() end
return answer
