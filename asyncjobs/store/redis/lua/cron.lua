-- What scripts about schedules share. It stands behind all other shared files; see shared.lua.
-- KEYS: those of shared.lua. The rule of a schedule is a hash, `cron:of:<id>`, and the jobs that it
--   has made are a list, `cron:ran:<id>`. Both have the hash tag of the queue, so its slot.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- The ids of all schedules, in the order of their bytes; the next ticks of those that have one.
local CRON = QUEUE['cron']
local CRON_NEXT = QUEUE['cron:next']

-- The fields of a rule as store/redis/rules.py reads them. `state` is '' while it is active, 'p'
-- when somebody has paused it, 'l' when no worker declares it any more. Times are in ms, '' for
-- none. `left` is '' without a limit.
local RULE_FIELDS = {'definition', 'version', 'code', 'state', 'reason', 'next', 'last', 'declared',
  'fired', 'missed', 'skipped', 'lag', 'left'}
local RULE_VERSION, RULE_CODE, RULE_STATE, RULE_NEXT = 2, 3, 4, 6
local RULE_DECLARED, RULE_FIRED, RULE_MISSED = 8, 9, 10
local RULE_SKIPPED, RULE_LAG, RULE_LEFT = 11, 12, 13

local function rule_key(id) return string.sub(WAKE, 1, -5) .. 'cron:of:' .. id end

-- The fields of a rule, or nil. What a foreign writer has put in its place is no rule.
local function read_rule(key)
  local found = redis.pcall('HMGET', key, unpack(RULE_FIELDS))
  if found.err or not found[RULE_VERSION] then return nil end
  return found
end

-- Whether the rule was declared in the last `age` ms.
local function is_fresh(rule, age, now)
  local declared = tonumber(rule[RULE_DECLARED] or '')
  return declared ~= nil and declared > now - age
end

-- Whether what has replaced this version in this queue is still declared.
local function is_older(key, rule, place, age, now)
  local replaced = redis.call('HGET', key, 'replaced') or ''
  local was_there = string.find(' ' .. replaced .. ' ', ' ' .. place .. ' ', 1, true)
  return was_there and is_fresh(rule, age, now)
end

-- An item of `cron:ran:<id>` whose call another job has taken over: as it was without that, and
-- that job. Nothing for others.
local function taken_over(item)
  local tick, length, rest = string.match(item, '^(%d+)=(%d+) (.*)$')
  if not tick then return nil end
  local own = string.sub(rest, 1, tonumber(length))
  return tick .. (own ~= '' and ' ' or '') .. own, string.sub(rest, #own + 1)
end

-- The same item with that job.
local function with_other(item, other)
  local tick, own = string.match(item, '^(%d+) ?(.*)$')
  return tick .. '=' .. #own .. ' ' .. own .. other
end

-- The job that an item of `cron:ran:<id>` is about. Behind the tick it has the id of a job that
-- somebody has made by hand.
local function ran_job(schedule, item)
  local _, other = taken_over(item)
  if other then return other end
  return string.match(item, '^%S+ (.*)$') or 'cron:' .. schedule .. ':' .. item
end

-- Sets when a schedule fires next, '' for never.
local function set_next(id, key, next_ms)
  redis.call('HSET', key, 'next', next_ms)
  if next_ms == '' then
    redis.call('ZREM', CRON_NEXT, id)
  else
    redis.call('ZADD', CRON_NEXT, next_ms, id)
  end
end

-- Says on the control channel that a next tick may be nearer now. Workers look for it only now and
-- then by themselves.
local function tell_changed()
  redis.call('PUBLISH', string.sub(WAKE, 1, -5) .. 'control', '!changed')
end

-- Fails for keys of a wrong type, before anything is written.
local function check_cron()
  redis.call('ZCARD', CRON)
  -- rule:23 a tick is used up only where the next one can be kept
  redis.call('ZCARD', CRON_NEXT)
end

-- The jobs that a schedule has made, from this place on. What a foreign writer has put there is
-- dropped.
local function runs_of(key, from)
  local runs = redis.pcall('LRANGE', key, from, -1)
  if not runs.err then return runs end
  redis.call('UNLINK', key)
  return {}
end

-- Notes the jobs that a schedule has made, the newest last.
local function note_runs(key, items)
  in_chunks('RPUSH', key, items)
  -- rule:23 the jobs of a schedule that are remembered are bounded
  if #items > 0 then redis.call('LTRIM', key, -10000, -1) end
end

-- The locks for ticks whose jobs are unique, or nil when none is. `first`: where the terms of
-- the first of `number` ticks stand, each as in enqueue_unique.lua. Fails before anything is
-- written.
local function locks_of_ticks(first, number, now)
  local locks
  for place = first, first + number - 1 do
    if ARGV[place] ~= '' then
      if not string.match(ARGV[place], '^[fsw][-rhq] %d+ %d+ .') then error('ERR bad terms') end
      locks = locks or open_locks(now)
    end
  end
  if locks then
    for slot = 1, 4 do redis.call('XLEN', READY[slot]) end
    -- rule:23 a tick is used up only where its key can be kept
    locks.check()
  end
  return locks
end

-- Stores a unique job of a tick. Returns nothing for one that goes its usual way, else what became
-- of it and the id of the job in its place.
local function store_unique(locks, place, terms, now)
  local id, word, due, envelope = unpack(ARGV, place + 1, place + 4)
  local position, priority = tonumber(ARGV[place]), tonumber(string.sub(word, 1, 1))
  local ms = tonumber(due) or now
  if string.sub(due, 1, 1) == '+' then ms = now + ms end
  ms = math.max(ms, now)
  local how, other
  -- rule:23 the job of a tick holds its unique key
  local lock = locks.claim(id, terms, ms)
  if lock then how, other = locks.meet(lock, id, terms, priority, envelope, ms) end
  if not how then redis.call('HSET', INDEX, id, locks.put(id, priority, envelope, ms)) end
  -- A result may be kept for longer than the id. It would be taken for that of the new job.
  if not how or how == 'held' then redis.call('UNLINK', KEYS[OWN_KEYS + 2 + position]) end
  return how, other
end

-- Stores the jobs of ticks. Returns the places of those whose id was there already, and, for those
-- of unique jobs that did not go their usual way, what became of them: {how, id}. `missing`: the
-- places of ticks that make no job. `terms`: in front of the terms of the first tick.
local function store_ticks(effects, begin, missing, now, locks, terms)
  local known, ran, met, others = effects.look_up(now), {}, {}, {}
  local has_ready, number = false, 0
  for place = begin, #ARGV, EFFECT do
    local position, due = tonumber(ARGV[place]), tonumber(ARGV[place + 3])
    local own = ARGV[terms + position]
    others[position] = missing[position] or own ~= ''
    if not missing[position] then
      if known[ARGV[place + 1]] then
        ran[position] = true
      elseif own ~= '' then
        known[ARGV[place + 1]] = true
        local how, id = store_unique(locks, place, own, now)
        if how then met[position] = {how, id} end
        if not how or how == 'held' then number = number + 1 end
      elseif not due or due <= now then
        has_ready = true
      end
    end
  end
  local stored, signals = effects.store(others, now)
  tally(now, 'e', stored + number)
  if locks then signals = signals or locks.is_ready or locks.is_earlier end
  -- rule:23 a job that a schedule has made pushes a token
  if has_ready or signals then wake() end
  return ran, met
end
