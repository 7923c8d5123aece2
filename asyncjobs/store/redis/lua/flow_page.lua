#!lua flags=allow-oom
-- Flows in some states, the newest first, and how many there are of each state.
-- KEYS: the queue's.
-- ARGV: 2 how many at the most, 0 to count them only; 3 when the last one before was opened, or '',
--   and 4 its id; then the states.
-- Result: {now, 1 when none is left, {id, when it was opened, all fields, ...}, {how many, ...}}.
local most, base, states = tonumber(ARGV[2]), string.sub(WAKE, 1, -5), {}
for position = 5, #ARGV do states[#states + 1] = ARGV[position] end
local flows, found, counts, is_all = open_flows(0), {}, {}, true
for place, state in ipairs(states) do
  local key = base .. 'flows:' .. state
  counts[place] = redis.call('ZCARD', key)
  if most > 0 and counts[place] > 0 then
    local after_ms, id = ARGV[3], nil
    if after_ms ~= '' then id = ARGV[4] end
    local members, _, left = members_between(key, '', '', false, most, after_ms, id)
    if left > most then is_all = false end
    for at = 1, #members, 2 do found[#found + 1] = {members[at], time_of(members[at + 1])} end
  end
end
table.sort(found, function(one, other)
  if one[2] ~= other[2] then return one[2] > other[2] end
  return one[1] ~= other[1] and precedes(other[1], one[1])
end)
local answer = {}
for place = 1, math.min(most, #found) do
  answer[#answer + 1] = found[place][1]
  answer[#answer + 1] = found[place][2]
  answer[#answer + 1] = redis.call('HGETALL', flows.keys(found[place][1])[1])
end
return {store_now(), is_all and #found <= most and 1 or 0, answer, counts}
