#!lua
-- Uses up ticks of a schedule and stores their jobs, if it is as it was read.
-- KEYS: the queue's; then the rule; the list of its jobs; the result key of each job of a tick.
-- ARGV: 2 id; 3 version; 4 the tick that was read as the next one; 5 the tick after these, '' for
--   none; 6 the last one that is used up; 7 how many are missed; 8 the overlap; 9 id_ttl_ms; 10 how
--   many jobs the history keeps; 11 how many ticks fire; then each of them; then their jobs as in
--   effects.lua, the place of the tick in front.
-- Result: {} when it is not as it was read. Or {a letter for each tick, the next tick, the lag, how
--   many may still fire, the jobs that were cancelled, and for ticks whose job did not go its usual
--   way: place, how, id}. The letters: F fired, S an earlier job lives or another one has the key,
--   O the limit is reached, R it ran before, or the id was there.
local id, key, ran = ARGV[2], KEYS[OWN_KEYS + 1], KEYS[OWN_KEYS + 2]
local expected, next_ms, overlap = tonumber(ARGV[4]), ARGV[5], ARGV[8]
local number, LOOKED_AT = tonumber(ARGV[11]), 100
local now, rule = store_now(), read_rule(key)
if not rule or rule[RULE_VERSION] ~= ARGV[3] then return {} end
-- rule:23 a tick is used up once
if tonumber(rule[RULE_NEXT] or '') ~= expected then return {} end
-- rule:23 the store's clock says whether a tick has come
if expected > now then return {} end

-- Everything is checked before the first write, for an error later does not roll back.
check_cron()
check_cancelled()
redis.call('LLEN', WAKE)
local runs = runs_of(ran, -LOOKED_AT)
local effects, failed = new_effects(12 + number, now)
if not effects then return failed end

-- The jobs of earlier ticks that live, and whether one of them waits. A job with a key that was
-- taken does not: it goes on until its last attempt has ended.
local function look_at_earlier()
  local living, waits, ids = {}, false, {}
  for position = 1, #runs do ids[position] = ran_job(id, runs[position]) end
  if #ids == 0 then return living, waits end
  local places, of = redis.call('HMGET', INDEX, unpack(ids)), {}
  if overlap == 'queue_one' then of = redis.call('HMGET', UNIQUE_OF, unpack(ids)) end
  for position = 1, #ids do
    if places[position] then
      living[#living + 1] = ids[position]
      local has_begun = string.sub(of[position] or '', 2, 2) == '1'
      waits = waits or not has_begun and is_queued(places[position])
    end
  end
  return living, waits
end

local letters, left = {}, tonumber(rule[RULE_LEFT] or '')
-- Somebody may have backfilled a tick before its time was used up. Its job would even be cancelled
-- to make room for itself.
local before, open = {}, {}
for _, item in ipairs(runs) do before[taken_over(item) or item] = true end
for tick = 1, number do
  letters[tick] = 'R'
  -- rule:23 a tick that has run by hand does not fire
  if not before[ARGV[11 + tick]] then open[#open + 1] = tick end
end
local most = math.min(left or #open, #open)
local living, last = {}, open[#open]
if overlap == 'allow' then
  -- rule:23 no more ticks fire than are left
  for place, tick in ipairs(open) do letters[tick] = place <= most and 'F' or 'O' end
else
  local waits
  living, waits = look_at_earlier()
  for _, tick in ipairs(open) do letters[tick] = most == 0 and 'O' or 'S' end
  if most > 0 then
    -- Of several ticks at once one fires: the job of the first would be in the way of the next.
    if overlap == 'cancel_running' then
      letters[last] = 'F'
    elseif overlap == 'skip' and #living == 0 or overlap == 'queue_one' and not waits then
      -- rule:23 no tick fires while an earlier job is in its way
      letters[open[1]] = 'F'
    end
  end
end

local missing, cancelled, stored = {}, {}, {}
for tick = 1, number do missing[tick] = letters[tick] ~= 'F' end
if overlap == 'cancel_running' and last and letters[last] == 'F' then
  local ended = {}
  for _, job in ipairs(living) do
    local taken_out, holder = take_out(job)
    if holder then
      mark(job, holder)
      redis.call('PUBLISH', string.sub(WAKE, 1, -5) .. 'control', holder .. ' ' .. job)
    elseif taken_out then
      ended[#ended + 1] = job
      stored[#stored + 1] = taken_out
    end
    cancelled[#cancelled + 1] = job
  end
  -- No result is kept, for nobody has asked for one.
  end_cancelled(ended, stored, {}, now, {'', ARGV[9], '0', '', ARGV[10]})
end
-- One of a trigger, or of a time when another overlap counted, has no key to wait for.
-- rule:23 the one that waits does so until the last attempt of the one that runs has ended
if overlap == 'queue_one' and letters[open[1]] == 'F' and #living > 0 then
  effects.placing.locks.lend(living[#living], effects.placing.first_key)
end
local was_there, met = store_ticks(effects, missing, now, ARGV[9], ARGV[10])
local fired, skipped, lag, items, others = 0, 0, rule[RULE_LAG] or '0', {}, {}
for tick = 1, number do
  local item, how, other = ARGV[11 + tick], unpack(met[tick] or {})
  if was_there[tick] then letters[tick] = 'R' end
  -- rule:23 a tick whose key is taken is skipped
  if how == 'there' then letters[tick] = 'S' end
  if how == 'replaced' then item = with_other(item, other) end
  if how then for _, part in ipairs({tick, how, other}) do others[#others + 1] = part end end
  if letters[tick] == 'F' then
    fired = fired + 1
    items[fired] = item
    lag = string.format('%.0f', math.max(now - tonumber(ARGV[11 + tick]), 0))
  elseif letters[tick] == 'S' then
    skipped = skipped + 1
  end
end
note_runs(ran, items)
if left then left = left - fired end
-- rule:23 after the last tick of a limit there is no next one
if left == 0 then next_ms = '' end
local function total(field, more)
  return string.format('%.0f', (tonumber(rule[field] or '') or 0) + more)
end
local left_text = left and string.format('%.0f', left) or ''
redis.call('HSET', key, 'last', ARGV[6], 'lag', lag, 'left', left_text,
  'fired', total(RULE_FIRED, fired), 'missed', total(RULE_MISSED, tonumber(ARGV[7])),
  'skipped', total(RULE_SKIPPED, skipped))
set_next(id, key, next_ms)
return {table.concat(letters), next_ms, lag, left_text, cancelled, others}
