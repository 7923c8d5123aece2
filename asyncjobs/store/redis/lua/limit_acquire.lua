#!lua flags=allow-oom
-- Permits outside of jobs are not refused at maxmemory.
-- Lets somebody who is no job pass some limits, all together or none.
-- KEYS: the queue's.
-- ARGV: 2 the uses, as a gate of gates.lua; 3 who it is; 4 for how many ms.
-- Result: {1, 0} when it is in, or {0, after how many ms to ask again}.
local now, holder, ttl = store_now(), ARGV[3], tonumber(ARGV[4])
-- Nobody can say when a permit comes back.
local ASK_AGAIN_MS = 500
local gates = gates_anyway(now)
local gate = gates.read_gate(ARGV[2])
if not gate or not ttl then return redis.error_reply('ERR bad gate') end
gates.check()
gates.drop_holders(1000)
gates.note_rules(gate)
local rooms, base = gates.rooms, gates.base
local function answer(is_in, again_ms)
  if gates.is_ready then wake() end
  return {is_in, again_ms}
end
local until_ms = string.format('%.0f', now + ttl)
if redis.call('ZSCORE', base .. 'holders', holder) then
  -- Who is in already counts once.
  redis.call('ZADD', base .. 'holders', until_ms, holder)
  return answer(1, 0)
end
local uses, again = gates.lane(gate.lane).uses, 0
for _, each in ipairs(uses) do
  local use = rooms.use(each.text)
  if rooms.room(use, each.tokens) < 1 then
    local ms = rooms.opens(use, each.tokens) - now
    if use.kind == 'c' and not use.closed then
      local first = redis.call('ZRANGE', base .. 'holders', 0, 0, 'WITHSCORES')[2]
      ms = math.max(math.min(ASK_AGAIN_MS, (tonumber(first or '') or math.huge) - now), 1)
    end
    again = math.max(again, ms)
  end
end
-- Outside of jobs, too, all limits are passed together or none.
if again > 0 then return answer(0, again) end
for _, each in ipairs(uses) do
  rooms.start(rooms.use(each.text), each.tokens)
  if string.sub(each.text, 1, 1) == 'c' then
    redis.call('ZADD', base .. 'permits', 0, each.text .. '\0~' .. holder)
  end
end
rooms.write()
-- Without permits there is nothing to give back, and the same call again would pay again.
redis.call('ZADD', base .. 'holders', until_ms, holder)
redis.call('HSET', base .. 'holders:of', holder, gate.lane)
return answer(1, 0)
