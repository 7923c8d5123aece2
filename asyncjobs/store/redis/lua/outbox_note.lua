#!lua flags=allow-oom
-- Notes how far an outbox was relayed.
-- KEYS: the queue's.
-- ARGV: 2 what has happened:
--     relayed  3 the last entry; then for each target its last one: target and id in turn
--     behind   3 a target that does not have what it was sent; 4 the last entry that it has
--     looked   3 the entry up to which all targets have what they were sent
-- Result: how many entries were dropped.
local OUTBOX, STATE, OLD = outbox_key('outbox'), outbox_key('outbox:state'), outbox_key('outbox:old')
local now, what, MOST = store_now(), ARGV[2], 10000
local at = redis.call('HGET', STATE, 'at') or '0-0'

if what == 'relayed' then
  -- Two relays of one outbox take nothing back from each other.
  if is_before(at, ARGV[3]) then redis.call('HSET', STATE, 'at', ARGV[3]) end
  for place = 4, #ARGV, 2 do
    local field = 'to:' .. ARGV[place]
    local last = redis.call('HGET', STATE, field) or '0-0'
    if is_before(last, ARGV[place + 1]) then redis.call('HSET', STATE, field, ARGV[place + 1]) end
  end
  if redis.call('HEXISTS', STATE, 'old') == 0 then begin_look(now) end
  return 0
end

if what == 'behind' then
  -- rule:37 a target that has lost something is sent it again
  redis.call('HSET', STATE, 'to:' .. ARGV[3], ARGV[4])
  if is_before(ARGV[4], at) then redis.call('HSET', STATE, 'at', ARGV[4]) end
  redis.call('HDEL', STATE, 'old')
  redis.call('UNLINK', OLD)
  return 0
end

local old = string.match(redis.call('HGET', STATE, 'old') or '', '^(%S+) ')
if old ~= ARGV[3] then return 0 end
local ms, number = string.match(old, '^(%d+)-(%d+)$')
local next_id = string.format('%s-%.0f', ms, tonumber(number) + 1)
-- What an outbox drops at once is bounded.
local dropped = redis.call('XTRIM', OUTBOX, 'MINID', '~', next_id, 'LIMIT', MOST)
if dropped >= MOST then return dropped end
-- What is left is less than a node of the stream.
dropped = dropped + redis.call('XTRIM', OUTBOX, 'MINID', '=', next_id)
redis.call('HDEL', STATE, 'old')
redis.call('UNLINK', OLD)
if is_before(old, at) then
  begin_look(now)
elseif redis.call('XLEN', OUTBOX) == 0 then
  -- The stream itself stays: its next entry must not have the id of one that targets know.
  redis.call('UNLINK', STATE)
end
return dropped
