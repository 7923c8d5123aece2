#!lua
-- Stores a batch with jobs that have terms, or repeats the answer that was given to its token:
-- enqueue.lua for what few batches need.
-- KEYS: the queue's; then the token's answer; then the result key of each job whose id was given.
-- ARGV: 2 token_ttl_ms; 3 id_ttl_ms; 4 how many jobs the history keeps; 5 number of barriers; then for
--   each of these: id, how many arrivals more, its mode as in barriers.lua; then for each job: id,
--   priority, due and envelope as in enqueue.lua, and
--   its terms as in terms.lua.
-- Result: for each job '<how><length>:<id>', in one text: '1' new, '0' there, 'r' replaced, 'h'
--   held, 'c' cancelled at once; the id is that of the job in its place, or empty.
local ANSWER, token_ttl = KEYS[OWN_KEYS + 1], tonumber(ARGV[2])
local FIELDS, lifts = 5, tonumber(ARGV[5])
if not lifts then return redis.error_reply('ERR bad number') end
local FIRST = 6 + 3 * lifts
local WORDS = {there = '0', replaced = 'r', held = 'h', cancelled = 'c'}
-- Everything is checked before the first write, for an error later does not roll back.
local now, asked, dues = store_now(), {}, {}
local placing = open_placing(now)
for at = 6, FIRST - 1, 3 do
  if not tonumber(ARGV[at + 1]) or not string.match(ARGV[at + 2] or '', '^[af]$') then
    return redis.error_reply('ERR bad barrier')
  end
  placing.need_barriers()
end
for at = FIRST, #ARGV, FIELDS do
  local word, due, terms = ARGV[at + 1], ARGV[at + 2], ARGV[at + 4]
  local stream = READY[(tonumber(string.sub(word, 1, 1)) or -1) + 1]
  local ms = tonumber(due ~= '' and due or '0')
  if not stream then return redis.error_reply('ERR bad priority') end
  if not ms then return redis.error_reply('ERR bad due time') end
  -- rule:37 a batch with malformed terms is refused whole
  if not placing.read(terms or '?') then return redis.error_reply('ERR bad terms') end
  if string.sub(due, 1, 1) == '+' then ms = now + ms end
  dues[at] = math.max(ms, now)
  if string.sub(word, 2, 2) ~= 'n' then asked[#asked + 1] = ARGV[at] end
end
placing.check()

local given = redis.call('GET', ANSWER)
-- rule:4 a batch with terms that is sent again has the answer of the first time
if given then
  -- A write, so that a WAIT behind this script waits for the replicas.
  redis.call('PEXPIRE', ANSWER, token_ttl)
  return given
end
local taken = recall(now, asked)

-- Before the jobs that are behind them.
for at = 6, FIRST - 1, 3 do
  placing.barriers.lift(ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2])
end
local answer, stored, given_ids, seen = {}, 0, 0, {}
placing.gather()
for at = FIRST, #ARGV, FIELDS do
  local id, word, envelope, terms = ARGV[at], ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
  local priority, result = tonumber(string.sub(word, 1, 1)), nil
  local is_new = string.sub(word, 2, 2) == 'n' and not seen[id]
  seen[id] = true
  if string.sub(word, 2, 2) ~= 'n' then
    given_ids = given_ids + 1
    result = KEYS[OWN_KEYS + 1 + given_ids]
  end
  local how, place = 'there', id
  if not taken[id] then how, place = placing.place(id, priority, dues[at], envelope, terms, is_new) end
  if not how or how == 'held' then
    stored = stored + 1
    -- A result may be kept for longer than the id. It would be taken for that of the new job.
    if result then redis.call('UNLINK', result) end
  end
  place = place or ''
  answer[#answer + 1] = (WORDS[how] or '1') .. #place .. ':' .. place
end
placing.flush()
answer = table.concat(answer)
-- Before what may still fail: a batch that is sent again finds its answer.
redis.call('SET', ANSWER, answer, 'PX', token_ttl)
placing.end_refused(ARGV[3], ARGV[4])
tally(now, 'e', stored)
-- rule:1 new work with terms pushes a token
if placing.is_ready() or placing.is_earlier() then wake() end
return answer
