-- What the history of a queue keeps of jobs that have ended. It stands behind shared.lua, which
-- says how scripts get what they use.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.
local HISTORY = QUEUE['history']
local HISTORY_JOBS = QUEUE['history:jobs']

-- Adds an entry for `number` jobs that have ended, and trims the ring to `most` jobs. The id of an
-- entry is how many jobs have ended so far, and `most`: so one command adds it and trims by jobs,
-- and whoever reads the ring knows how many of them are to be shown.
local function add_to_history(now, most, number, ...)
  local function add(...)
    local total = redis.pcall('INCRBY', HISTORY_JOBS, number)
    if type(total) == 'table' then return total end
    local first = string.format('%.0f', math.max(total - most + 1, 0))
    -- rule:19 the ring keeps no more jobs than it may
    return redis.pcall('XADD', HISTORY, 'MINID', first, string.format('%.0f-%.0f', total, most),
      'at', string.format('%.0f', now), 'jobs', number, ...)
  end
  local added = add(...)
  if type(added) ~= 'table' or not added.err then return end
  -- A foreign writer, or a server that has lost one of the two keys. The jobs have ended, and an
  -- error here would say that they have not: the history begins anew.
  -- rule:19 a history that is spoiled makes no settlement fail
  redis.call('UNLINK', HISTORY, HISTORY_JOBS)
  add(...)
end

-- Adds what a worker tells of the jobs that one exchange has ended. `void`, `cancelled`: places of
-- settlements without effect, and of those that were cancelled instead of being run again.
local function record_ends(now, most, number, told, void, cancelled)
  add_to_history(now, most, number, 'void', table.concat(void, ' '),
    'cancelled', table.concat(cancelled, ' '), 'told', told)
end

-- Adds jobs that have ended while they waited, in the state with this code. `waited` has for each its
-- id and what it was stored as; whoever reads the history finds the name of its function in the beginning of that.
local function record_waiting(now, most, waited, state)
  if most <= 0 then return end
  for first = 1, #waited, CHUNK do
    local last, fields = math.min(first + CHUNK - 1, #waited), {}
    for place = first, last, 2 do
      fields[#fields + 1] = 'id'
      fields[#fields + 1] = waited[place]
      fields[#fields + 1] = 'start'
      fields[#fields + 1] = string.sub(waited[place + 1], 2, 400)
    end
    add_to_history(now, most, #fields / 4, 'as', state, unpack(fields))
  end
end

-- Drops the figures of a queue, see add_figures.lua. Their keys are not listed anywhere: each is
-- named by its time, and those are dropped that can be there.
local function drop_figures(now)
  local base = string.sub(WAKE, 1, -5) .. 'figures:'
  for unit, about in pairs({minute = {60000, 1440}, hour = {3600000, 720}}) do
    local last, keys = math.floor(now / about[1]) + 1, {}
    for number = last - about[2] - 1, last do
      keys[#keys + 1] = string.format('%s%s:%.0f', base, unit, number)
    end
    for first = 1, #keys, CHUNK do
      redis.call('UNLINK', unpack(keys, first, math.min(first + CHUNK - 1, #keys)))
    end
  end
end
