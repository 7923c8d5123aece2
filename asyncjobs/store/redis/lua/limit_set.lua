#!lua flags=allow-oom
-- A rule is set at maxmemory, too.
-- Sets the rule of a limit, or of one of its keys, in place of that in code; or drops it.
-- KEYS: the queue's.
-- ARGV: 2 limit; 3 1 for one key; 4 that key; 5 the rule as in rooms.lua, or '' to drop it; 6 where
--   to go on, '' at first.
-- Result: {0, ''} when nothing is known of the limit, or {-1, its kind} for a rule of another one; or
--   {1, where to go on or ''}: then the call is made again, for lanes that may go on now.
local limit, is_own, key, rule = ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5]
-- How many keys of a limit one call looks at.
local MOST_KEYS = 200
local now = store_now()
local gates = gates_anyway(now)
gates.check()
local rooms, base = gates.rooms, gates.base
local of_key, of_limit, _, by_code = rooms.fields(limit, key)
local code = redis.call('HGET', base .. 'limits', by_code)
if not code then return {0, ''} end
local kind = string.sub(code, 1, 1)
if rule ~= '' and string.sub(rule, 1, 1) ~= kind then return {-1, kind} end
local field = is_own and of_key or of_limit
if rule == '' then
  redis.call('HDEL', base .. 'limits', field)
else
  redis.call('HSET', base .. 'limits', field, rule)
  if is_own then redis.call('HSET', base .. 'limits', '*', '1') end
end
local start = kind .. #limit .. ':' .. limit
local goes_on = ''
if is_own then
  gates.change_rule(start .. #key .. ':' .. key)
else
  -- Each key that lanes wait at: the start of its members, then the next behind them.
  local from = ARGV[6] ~= '' and '(' .. ARGV[6] or '[' .. start
  for number = 1, MOST_KEYS do
    local found = redis.call('ZRANGE', base .. 'lanes:of', from, '(' .. start .. '\255', 'BYLEX',
      'LIMIT', 0, 1)[1]
    if not found then break end
    local size, at = string.match(found, '^(%d+):()', #start + 1)
    local text = string.sub(found, 1, at + tonumber(size or '0') - 1)
    gates.change_rule(text)
    from = '(' .. text .. '\1'
    if number == MOST_KEYS then goes_on = text .. '\1' end
  end
end
-- Jobs that may go on with another rule do so at once.
if gates.is_ready or gates.is_earlier then wake() end
return {1, goes_on}
