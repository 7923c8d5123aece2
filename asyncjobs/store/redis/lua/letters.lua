#!lua flags=allow-oom
-- One page of dead letters, in the order of their deaths.
-- KEYS: the queue's.
-- ARGV: 2 'old' or 'new' first; 3 from, 4 before (ms or ''); 5 how many at the most; 6 bytes
--   after which the page ends; 7 bytes of an envelope, or '' for all; then of the letter
--   behind which the page begins, if there is one: 8 died ms; 9 id.
-- Result: {now, letters of that time, 1 when more follow, {id, died ms, size, letter, ...}}.
local oldest_first, limit = ARGV[2] == 'old', tonumber(ARGV[5])
local max_bytes, cut = tonumber(ARGV[6]), tonumber(ARGV[7])

local function deaths_before(ms) return redis.call('ZCOUNT', DEAD, '-inf', '(' .. ms) end

-- Compares bytes as the sorted set does. In Lua `<` follows the locale of the server.
local function precedes(a, b)
  for position = 1, math.min(#a, #b) do
    local left, right = string.byte(a, position), string.byte(b, position)
    if left ~= right then return left < right end
  end
  return #a < #b
end

-- How many letters of `ms` or before stand before `id`. It searches by halves: many letters may
-- have the same time, and the letter itself may be gone, so it has no rank.
local function rank_of(ms, id)
  local low, to = deaths_before(ms), tonumber(ms) >= 9e15 and '+inf' or ms
  local high = redis.call('ZCOUNT', DEAD, '-inf', to)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if precedes(redis.call('ZRANGE', DEAD, middle, middle)[1], id) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- Ranks from `first` up to and without `last`.
local first = ARGV[3] ~= '' and deaths_before(ARGV[3]) or 0
local last = ARGV[4] ~= '' and deaths_before(ARGV[4]) or redis.call('ZCARD', DEAD)
local total = math.max(last - first, 0)
if ARGV[8] then
  local rank = rank_of(ARGV[8], ARGV[9])
  if not oldest_first then
    last = math.min(last, rank)
  else
    local there = redis.call('ZRANGE', DEAD, rank, rank, 'WITHSCORES')
    if there[1] == ARGV[9] and time_of(there[2]) == tonumber(ARGV[8]) then rank = rank + 1 end
    first = math.max(first, rank)
  end
end
local found = {}
if last > first then
  if oldest_first then
    found = redis.call('ZRANGE', DEAD, first, math.min(last, first + limit) - 1, 'WITHSCORES')
  else
    local length = redis.call('ZCARD', DEAD)
    local from = length - last
    local to = math.min(length - first, from + limit) - 1
    found = redis.call('ZRANGE', DEAD, from, to, 'REV', 'WITHSCORES')
  end
end

local letters, bytes, read = {}, 0, 0
for position = 1, #found, 2 do
  if bytes >= max_bytes then break end
  local letter = redis.call('HGET', DEAD_DATA, found[position]) or ''
  local size = #letter
  bytes, read = bytes + size, read + 1
  if cut then
    local line = string.find(letter, '\n', 2, true) or 1
    letter = string.sub(letter, 1, line + cut)
  end
  letters[#letters + 1] = found[position]
  letters[#letters + 1] = time_of(found[position + 1])
  letters[#letters + 1] = math.max(size - 1, 0)
  letters[#letters + 1] = letter
end
return {store_now(), total, read < last - first and 1 or 0, letters}
