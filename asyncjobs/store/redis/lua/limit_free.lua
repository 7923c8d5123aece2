#!lua flags=allow-oom
-- A key is opened at maxmemory, too.
-- Opens a key that is closed for a time, and takes back permits that nobody holds.
-- KEYS: the queue's.
-- ARGV: 2 limit; 3 key; 4 where to go on, '' at first.
-- Result: {how many permits nobody held, where to go on or ''}.
local limit, key, MOST = ARGV[2], ARGV[3], 1000
local gates = gates_anyway(store_now())
gates.check()
gates.drop_holders(1000)
local rooms, base = gates.rooms, gates.base
local name, freed, goes_on = #limit .. ':' .. limit .. #key .. ':' .. key, 0, ''
for _, kind in ipairs({'r', 'c'}) do
  local text = kind .. name
  redis.call('HDEL', base .. 'closed', text)
  redis.call('ZREM', base .. 'rates', text)
  rooms.forget(text)
end
local text = 'c' .. name
local first = ARGV[4] ~= '' and '(' .. ARGV[4] or '[' .. text .. '\0'
local members = redis.call('ZRANGE', base .. 'permits', first, '(' .. text .. '\1', 'BYLEX', 'LIMIT',
  0, MOST)
for _, member in ipairs(members) do
  local entry, id = string.match(member, '^(1%-%d+)%z(.*)$', #text + 2)
  local is_held
  if entry then
    local held = redis.pcall('XPENDING', GATED, GROUP, entry, entry, 1)
    is_held = not held.err and #held > 0 and redis.call('HGET', INDEX, id) == '4:' .. entry
  else
    is_held = redis.call('ZSCORE', base .. 'holders', string.sub(member, #text + 3)) ~= false
  end
  -- A permit that nobody holds is found and taken back.
  if not is_held then freed = freed + rooms.give_back(text, {member}) end
end
if #members == MOST then goes_on = members[MOST] end
for _, kind in ipairs({'r', 'c'}) do gates.review_use(kind .. name) end
if gates.is_ready or gates.is_earlier then wake() end
return {freed, goes_on}
