#!lua
-- Stores a schedule, or brings it up to date. A rule that came along from another queue is what was
-- there before.
-- KEYS: the queue's; then the rule; then the list of its jobs.
-- ARGV: 2 id; 3 definition; 4 version; 5 '1' when it is declared in code, else ''; 6 the next tick;
--   7 how many may fire; 8 for how many ms a declaration counts; 9 its queue and its version in one
--   word; 10 how many fields and values come along; then these; then the jobs that it has made.
-- Result: 'new', 'changed', 'same' or 'older'.
local id, definition, version, code, next_ms, left = unpack(ARGV, 2, 7)
local now, key, ran = store_now(), KEYS[OWN_KEYS + 1], KEYS[OWN_KEYS + 2]
local MOST_REPLACED = 8
check_cron()
local rule, place, came = read_rule(key), ARGV[9], tonumber(ARGV[10])
local is_moved = came > 0 and not rule
if not rule then
  -- Whatever a foreign writer has put there.
  redis.call('UNLINK', key, ran)
  if is_moved then
    redis.call('HSET', key, unpack(ARGV, 11, 10 + came))
    local jobs = {}
    for position = 11 + came, #ARGV do jobs[#jobs + 1] = ARGV[position] end
    in_chunks('RPUSH', ran, jobs)
    rule = read_rule(key)
  end
end
local declared = code == '1' and string.format('%.0f', now) or ''
-- Last, for what `cron` names is shown.
if not rule then
  redis.call('HSET', key, 'definition', definition, 'version', version, 'code', code, 'state', '',
    'left', left, 'declared', declared, 'place', place)
  set_next(id, key, next_ms)
  redis.call('ZADD', CRON, 0, id)
  tell_changed()
  return 'new'
end
local is_same = rule[RULE_VERSION] == version
-- One that has moved was let go, so it is the newer one.
if not is_moved and code == '1' then
  -- rule:23 a replaced version does not come back while the newer one is declared
  if is_older(key, rule, place, tonumber(ARGV[8]), now) then return 'older' end
end
local before, replaced = unpack(redis.call('HMGET', key, 'place', 'replaced'))
redis.call('HSET', key, 'definition', definition, 'version', version, 'code', code,
  'declared', declared, 'place', place)
if before ~= place then
  local places = {}
  for word in string.gmatch((replaced or '') .. ' ' .. (before or ''), '%S+') do
    if word ~= place then places[#places + 1] = word end
  end
  local first = math.max(#places - MOST_REPLACED + 1, 1)
  redis.call('HSET', key, 'replaced', table.concat(places, ' ', first))
end
-- What a move has begun and not finished.
local moved, lapsed = unpack(redis.call('HMGET', key, 'moved', 'lapsed'))
redis.call('HDEL', key, 'moved', 'taken', 'lapsed')
local keeps = moved or rule[RULE_NEXT] or ''
if not is_same then
  redis.call('HSET', key, 'left', left)
  keeps = next_ms
end
if rule[RULE_STATE] == 'l' then
  redis.call('HSET', key, 'state', '', 'reason', '')
  -- A worker may only have been away, as in a slow restart: what it has missed is late.
  -- rule:23 a lapsed schedule loses no tick
  if is_same then keeps = lapsed or next_ms end
elseif rule[RULE_STATE] == 'p' then
  -- rule:23 a schedule that somebody has paused stays paused when it changes
  keeps = ''
end
set_next(id, key, keeps)
redis.call('ZADD', CRON, 0, id)
tell_changed()
if is_same and not is_moved then return 'same' end
return 'changed'
