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

-- Stores the jobs of ticks. Returns the places of those whose id was there already, and, for those
-- of unique jobs that did not go their usual way, what became of them: {how, id}. `missing`: the
-- places of ticks that make no job.
local function store_ticks(effects, missing, now, id_ttl, history)
  local ran, met = {}, {}
  effects.look_up()
  local stored, signals = effects.store(missing)
  for _, placed in ipairs(effects.places) do
    local position, how, other, id = unpack(placed)
    if how == 'there' and other == id then
      ran[position] = true
    else
      met[position] = {how, other}
    end
  end
  if effects.placing then effects.placing.end_refused(id_ttl or '0', history or '0') end
  tally(now, 'e', stored)
  -- rule:23 a job that a schedule has made pushes a token
  if effects.is_ready or signals then wake() end
  return ran, met
end
