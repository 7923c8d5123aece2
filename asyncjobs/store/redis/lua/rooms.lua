-- The room at limits: their rules, who has a permit, and when a key is open again. It stands behind
-- shared.lua; gates.lua has the jobs that wait for it. A queue without limits has none of its keys,
-- so their names are made from the start of the queue's names.
--   permits  '<use><0><entry><0><id>' of each job that runs at a concurrency limit, and
--            '<use><0>~<holder>' of each other holder, in the order of their bytes
--   rates    use -> when the starts so far are paid off, in ms: the theoretical arrival time of GCRA
--   closed   use -> '<until ms> <since ms>': nobody passes
--   limits   'c<limit>' and 'k<limit>:<key>': the rules of code, for a limit and for one key of it;
--            'o' and 'p' in place of these: an operator has set it; '*': some key has one
--   holders  who has permits outside of jobs -> until when (ms); holders:of  who -> its lane
-- A use is '<c or r><length>:<limit><length>:<key>', and a rule '<c or r><number> <period ms>
-- <burst>': 'c' at a concurrency limit, 'r' at a rate.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- `use(text)`: a use as it stands; what a script takes is counted there, too.
-- `room(use, tokens)`: how many jobs may pass now, each for so many tokens.
-- `opens(use, tokens)`: when the next one may, which is no question of permits.
-- `start(use, tokens)`: one passes. `write()`: keeps the times of those that passed.
-- `note(use, is_own, rule)`: code says this rule. Returns whether it is another one than before.
-- `close(use, until)`: nobody passes until then.
local function open_rooms(now)
  local base = string.sub(WAKE, 1, -5)
  local PERMITS, RATES, CLOSED = base .. 'permits', base .. 'rates', base .. 'closed'
  local LIMITS = base .. 'limits'
  local rooms, uses, limits, started = {}, {}, {}, {}
  local has_closed = redis.call('EXISTS', CLOSED) == 1

  function rooms.check()
    for _, key in ipairs({PERMITS, RATES, base .. 'holders'}) do redis.call('ZCARD', key) end
    for _, key in ipairs({CLOSED, LIMITS, base .. 'holders:of'}) do redis.call('HEXISTS', key, '') end
  end

  -- The fields of `limits` that a key obeys, the strongest first.
  function rooms.fields(limit, key)
    local own = #limit .. ':' .. limit .. ':' .. key
    return 'p' .. own, 'o' .. limit, 'k' .. own, 'c' .. limit
  end

  -- What is set for a limit, and whether keys of any limit have rules of their own: few queues have
  -- such, and looking for them costs as much as the rest.
  local function read_limit(limit)
    local found = limits[limit]
    if not found then
      found = redis.call('HMGET', LIMITS, 'o' .. limit, 'c' .. limit, '*')
      limits[limit] = found
    end
    return found
  end

  local function read_rule(use)
    local set, code, has_own = unpack(read_limit(use.limit))
    local found = {false, set, false, code}
    if has_own then
      local of_key, _, own = rooms.fields(use.limit, use.key)
      local special = redis.call('HMGET', LIMITS, of_key, own)
      found[1], found[3] = special[1], special[2]
    end
    use.found = found
    for place = 1, 4 do
      local kind, number, period, burst = string.match(found[place] or '',
        '^([cr])(%d+) (%d+) (%d+)$')
      -- The rule of an operator comes before that of code, that of a key before its limit's.
      if kind == use.kind then
        use.number, use.period, use.is_set = tonumber(number), tonumber(period), place < 3
        use.burst = math.max(math.min(tonumber(burst), use.number), 1)
        use.rule = found[place]
        -- rule:34 with bursts of B, at most N starts are in any window
        use.cost = use.period / math.max(use.number - use.burst + 1, 1)
        return
      end
    end
    -- A foreign writer has removed the rule: the limit bounds nothing until code says it again.
    use.number, use.period, use.burst, use.cost, use.rule = math.huge, 0, 1, 0, ''
  end

  local function read_closed(use)
    local stored = has_closed and redis.call('HGET', CLOSED, use.text)
    local until_ms, since = string.match(stored or '', '^(%d+) (%d+)$')
    if not until_ms then return end
    until_ms, since = tonumber(until_ms), tonumber(since)
    -- After a step back of the clock a key is closed no longer than it was to.
    if since > now + STEP_MS then until_ms = until_ms - since + now end
    if until_ms > now then use.closed = until_ms end
  end

  -- Says what a use consists of, for one that somebody has taken apart already.
  function rooms.name(text, kind, limit, key)
    if not uses[text] then uses[text] = {text = text, kind = kind, limit = limit, key = key} end
  end

  function rooms.use(text)
    local use = uses[text]
    if use and use.number then return use end
    if not use then
      local kind, size, at = string.match(text, '^([cr])(%d+):()')
      local limit = string.sub(text, at, at + tonumber(size) - 1)
      local _, behind = string.match(text, '^(%d+):()', at + #limit)
      use = {text = text, kind = kind, limit = limit, key = string.sub(text, behind)}
      uses[text] = use
    end
    read_rule(use)
    read_closed(use)
    if use.kind == 'r' then
      use.paid = tonumber(redis.call('ZSCORE', RATES, text) or '0')
      -- rule:34 after a step back of the clock a rate holds nobody for longer than it can
      use.paid = math.min(use.paid, now + use.number * use.cost)
    end
    return use
  end

  -- How many permits are taken.
  function rooms.taken(use)
    if not use.taken then
      use.taken = redis.call('ZLEXCOUNT', PERMITS, '[' .. use.text .. '\0', '(' .. use.text .. '\1')
    end
    return use.taken
  end

  function rooms.room(use, tokens)
    -- One that counts for more than all could never pass.
    tokens = math.min(tokens, use.number)
    if use.closed or use.number < 1 then return 0 end
    if use.kind == 'c' then return math.max(use.number - rooms.taken(use), 0) end
    if use.cost == 0 then return math.huge end
    local from, most = use.paid, 1
    -- One that counts for more than a burst starts when nobody has started for long enough.
    if tokens <= use.burst then from, most = math.max(from, now), math.huge end
    -- Times are fractions, so a hundredth of a millisecond more or less is none.
    local starts = (now + use.burst * use.cost - from + 0.01) / (tokens * use.cost)
    return math.min(math.max(math.floor(starts), 0), most)
  end

  function rooms.opens(use, tokens)
    tokens = math.min(tokens, use.number)
    local ms = use.closed or 0
    if use.kind == 'r' then
      if use.number < 1 then
        ms = math.max(ms, now + math.max(use.period, 1000))
      else
        ms = math.max(ms, use.paid + (tokens - use.burst) * use.cost)
      end
    end
    return math.max(math.ceil(ms - 0.001), now + 1)
  end

  function rooms.start(use, tokens)
    if use.kind == 'c' then
      use.taken = rooms.taken(use) + 1
    else
      tokens = math.min(tokens, use.number)
      -- Also one that waited for its tokens: a window behind it sees it, too.
      -- rule:34 a start is paid for by its tokens
      use.paid = math.max(use.paid, now) + tokens * use.cost
      started[use.text] = use
    end
  end

  -- Keeps what is owed at a rate as it was found.
  function rooms.keep(text)
    local use = rooms.use(text)
    if use.kind == 'r' and use.paid > 0 then started[text] = use end
  end

  -- Another rule never owes more than its burst.
  function rooms.forgive(text)
    local use = rooms.use(text)
    if use.kind ~= 'r' or use.number < 1 then return end
    use.paid = math.min(use.paid, now + use.burst * use.cost)
    rooms.keep(text)
    rooms.write()
  end

  function rooms.write()
    for text, use in pairs(started) do
      redis.call('ZADD', RATES, string.format('%.4f', use.paid), text)
      -- A start of many tokens asks for how long nobody has passed, up to a whole period.
      local left = math.ceil(use.paid - now + use.period) + 1000
      redis.call('PEXPIRE', RATES, left, 'NX')
      redis.call('PEXPIRE', RATES, left, 'GT')
    end
    started = {}
  end

  function rooms.note(text, is_own, rule)
    local use = rooms.use(text)
    local _, _, own, code = unpack(use.found)
    if is_own and own == rule or not is_own and not own and code == rule then return false end
    local _, _, own_field, code_field = rooms.fields(use.limit, use.key)
    if is_own then
      redis.call('HSET', LIMITS, own_field, rule, '*', '1')
    else
      -- Code does not say a rule of the key alone any more.
      if own then redis.call('HDEL', LIMITS, own_field) end
      redis.call('HSET', LIMITS, code_field, rule)
    end
    -- A limit is known by its name, also while only keys of it have rules.
    if not code then redis.call('HSET', LIMITS, code_field, rule) end
    rooms.reread(use.limit)
    return true
  end

  -- What is known of this use has changed in the store.
  function rooms.forget(text) uses[text] = nil end

  -- The rules of a limit have changed.
  function rooms.reread(limit)
    limits[limit] = nil
    for _, use in pairs(uses) do
      if use.limit == limit and use.number then read_rule(use) end
    end
  end

  function rooms.close(text, until_ms)
    local use = rooms.use(text)
    -- rule:34 a key that is closed for longer stays so
    if use.closed and use.closed >= until_ms then return end
    use.closed, has_closed = until_ms, true
    redis.call('HSET', CLOSED, text, string.format('%.0f %.0f', until_ms, now))
    -- Keys that are open again go together, when the last one of them is.
    local left = until_ms - now + 60000
    redis.call('PEXPIRE', CLOSED, left, 'NX')
    redis.call('PEXPIRE', CLOSED, left, 'GT')
  end

  -- Takes these members out of `permits`, all of one use. Returns how many were there.
  function rooms.give_back(text, members)
    local number = 0
    for first = 1, #members, CHUNK do
      local last = math.min(first + CHUNK - 1, #members)
      -- A permit is given back once, by who has it.
      number = number + redis.call('ZREM', PERMITS, unpack(members, first, last))
    end
    local use = uses[text]
    if use and use.taken then use.taken = use.taken - number end
    return number
  end

  return rooms
end
