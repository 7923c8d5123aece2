#!lua
-- Stores one job that is ready at once and whose id was made for it, or repeats the answer that
-- was given to its token: enqueue.lua for the most common case. A large job has to be noted, so it
-- goes through enqueue.lua.
-- KEYS: the queue's; then the stream of its priority; then the token's answer.
-- ARGV: 2 token_ttl_ms; 3 id, 4 priority, 5 envelope.
-- Result: '1' new.
local stream, token = KEYS[OWN_KEYS + 1], KEYS[OWN_KEYS + 2]
-- rule:4 a lone new job sent again is not stored again
if redis.call('SET', token, '1', 'NX', 'GET', 'PX', ARGV[2]) then
  -- A write, so that a WAIT behind this script waits for the replicas.
  redis.call('PEXPIRE', token, ARGV[2])
  return '1'
end
local entry = redis.pcall('XADD', stream, '*', ARGV[3], ARGV[5])
if type(entry) == 'table' then
  -- Nothing is stored. When the job is sent again, its token must not say that it is.
  -- rule:4 a batch that was refused has no answer under its token
  redis.call('UNLINK', token)
  return entry
end
-- rule:9 a lone new job has its place in the index
local failed = redis.pcall('HSET', INDEX, ARGV[3], ARGV[4] .. ':' .. entry)
if type(failed) == 'table' then
  -- rule:4 a lone job that was refused is not there
  redis.call('XDEL', stream, entry)
  redis.call('UNLINK', token)
  return failed
end
local now = tonumber(ARGV[1]) or tonumber(string.match(entry, '^%d+'))
tally(now, 'e', 1)
-- rule:1 a lone new job pushes a token
wake()
return '1'
