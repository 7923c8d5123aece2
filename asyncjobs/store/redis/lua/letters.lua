#!lua flags=allow-oom
-- One page of dead letters, in the order of their deaths.
-- KEYS: the queue's.
-- ARGV: 2 'old' or 'new' first; 3 from, 4 before (ms or ''); 5 how many at the most; 6 bytes
--   after which the page ends; 7 bytes of an envelope, or '' for all; then of the letter
--   behind which the page begins, if there is one: 8 died ms; 9 id.
-- Result: {now, letters of that time, 1 when more follow, {id, died ms, size, letter, ...}}.
local oldest_first, limit = ARGV[2] == 'old', tonumber(ARGV[5])
local max_bytes, cut = tonumber(ARGV[6]), tonumber(ARGV[7])

local found, total, left = members_between(DEAD, ARGV[3], ARGV[4], oldest_first, limit, ARGV[8],
  ARGV[9])
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
return {store_now(), total, read < left and 1 or 0, letters}
