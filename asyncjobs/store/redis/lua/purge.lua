#!lua flags=allow-oom
-- Drops dead letters.
-- KEYS: the queue's.
-- ARGV: 2 and on, for each letter: id, died ms.
-- Result: one character for each letter: '1' dropped, '0' no letter of this death.
local count = (#ARGV - 1) / 2
if count ~= math.floor(count) then return redis.error_reply('ERR bad length') end
for letter = 1, count do
  if not tonumber(ARGV[2 * letter + 1]) then return redis.error_reply('ERR bad time') end
end
local answer = {}
for letter = 1, count do
  local id, died = ARGV[2 * letter], redis.call('ZSCORE', DEAD, ARGV[2 * letter])
  answer[letter] = '0'
  if died and time_of(died) == tonumber(ARGV[2 * letter + 1]) then
    answer[letter] = '1'
    drop_letters({id})
  end
end
return table.concat(answer)
