-- What the scripts share that list jobs. It stands behind shared.lua, which says how scripts get
-- what they use.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- How many members of a sorted set stand before this time.
local function count_before(key, ms) return redis.call('ZCOUNT', key, '-inf', '(' .. ms) end

-- Compares bytes as the sorted set does. In Lua `<` follows the locale of the server.
local function precedes(a, b)
  for position = 1, math.min(#a, #b) do
    local left, right = string.byte(a, position), string.byte(b, position)
    if left ~= right then return left < right end
  end
  return #a < #b
end

-- How many members of `ms` or before stand before `id`. It searches by halves: many members may
-- have the same time, and the one itself may be gone, so it has no rank.
local function rank_of(key, ms, id)
  local low, to = count_before(key, ms), tonumber(ms) >= 9e15 and '+inf' or ms
  local high = redis.call('ZCOUNT', key, '-inf', to)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if precedes(redis.call('ZRANGE', key, middle, middle)[1], id) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- The members from a time on and before another one ('' for none), behind one of them if `id` is
-- given: at most `most`, with their scores, and how many there are.
local function members_between(key, since, before, oldest_first, most, after_ms, id)
  -- Ranks from `first` up to and without `last`.
  local first = since ~= '' and count_before(key, since) or 0
  local last = before ~= '' and count_before(key, before) or redis.call('ZCARD', key)
  local total = math.max(last - first, 0)
  if id then
    local rank = rank_of(key, after_ms, id)
    if not oldest_first then
      last = math.min(last, rank)
    else
      local there = redis.call('ZRANGE', key, rank, rank, 'WITHSCORES')
      if there[1] == id and time_of(there[2]) == tonumber(after_ms) then rank = rank + 1 end
      first = math.max(first, rank)
    end
  end
  if last <= first then return {}, total, 0 end
  if oldest_first then
    local to = math.min(last, first + most) - 1
    return redis.call('ZRANGE', key, first, to, 'WITHSCORES'), total, last - first
  end
  local length = redis.call('ZCARD', key)
  local from = length - last
  local to = math.min(length - first, from + most) - 1
  return redis.call('ZRANGE', key, from, to, 'REV', 'WITHSCORES'), total, last - first
end

-- The newest progress of a job, '' without any. A worker of an older release keeps it in the key of
-- layout 1, and may run beside this one. What stands there is newer than the note, for a note
-- removes it. A key with a wrong type costs no other job its answer.
local function progress_of(id, has_old)
  local old = has_old and redis.pcall('HGET', PROGRESS, id)
  if type(old) == 'string' then return old end
  local note = redis.pcall('HGET', string.sub(WAKE, 1, -5) .. 'notes:' .. id, 'progress')
  return type(note) == 'string' and note or ''
end

-- The event that a job waits for, as '<name><0><key>'; '' when it waits for none.
local function event_of(id)
  local wait = redis.pcall('HGET', string.sub(WAKE, 1, -5) .. 'notes:' .. id, 'waits')
  return type(wait) == 'string' and string.sub(wait, 1, -(#id + 2)) or ''
end

-- Whether a job may be one that is looked for: it contains `exact`, and `lowered` in upper or lower
-- case; '' is in each. Who asks looks closer. That saves sending jobs that are not wanted.
local function may_match(stored, exact, lowered)
  if exact ~= '' and not string.find(stored, exact, 1, true) then return false end
  if lowered == '' or string.find(string.lower(stored), lowered, 1, true) then return true end
  -- Letters outside of ASCII may have these as their lower case, and may be written as escapes.
  return string.find(stored, '[\128-\255]') ~= nil or string.find(stored, '\\u', 1, true) ~= nil
end
