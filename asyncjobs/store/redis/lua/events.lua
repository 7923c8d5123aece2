-- What the scripts share that bring events to jobs. It stands behind shared.lua, which says how
-- scripts get what they use.
--   waits      '<name><0><key><0><id>' of each job that waits, in the order of their bytes
--   events     a stream of the events that are kept, oldest first: fields 'of', 'value', 'token',
--              'over' (until when it counts), 'total' (bytes of all that were ever kept)
--   events:of  '<name><0><key><0><id of the event>' of each of them, in the order of their bytes
-- Of a job that waits two of its notes tell the rest: 'waits' is its member of the first, and
-- 'waits:until' is '<until ms> <after> <name of a note>'. So a wait goes with the notes of its job,
-- and most jobs, which have none, pay nothing for it.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- Fails for keys of a wrong type, before the first write.
local function check_events()
  redis.call('XLEN', EVENTS)
  redis.call('SISMEMBER', NOTED, '')
  for _, key in ipairs({WAITS, EVENTS_OF}) do redis.call('ZCARD', key) end
end

local function notes_of(id) return string.sub(WAKE, 1, -5) .. 'notes:' .. id end

-- The id of an event as members and cursors have it: of one length, so that the order of the bytes
-- is that of the events.
local function event_mark(entry)
  local ms, number = string.match(entry, '^(%d+)-(%d+)$')
  return string.format('%013.0f-%010.0f', tonumber(ms), tonumber(number))
end

-- The other way round.
local function entry_of(place)
  local ms, number = string.match(place, '^(%d+)-(%d+)$')
  if not ms then return nil end
  return string.format('%.0f-%.0f', tonumber(ms), tonumber(number))
end

-- A field of an event that is kept, '' for none.
local function field_of(entry, name)
  for place = 1, #entry[2] - 1, 2 do
    if entry[2][place] == name then return entry[2][place + 1] end
  end
  return ''
end

-- Whether an event stands behind a cursor: another event, or a time. In Lua `<` compares texts as
-- the locale of the server does.
local function is_behind(event, after)
  local ms, number = string.match(event, '^(%d+)-(%d+)$')
  local after_ms, after_number = string.match(after, '^(%d+)-?(%d*)$')
  ms, after_ms = tonumber(ms), tonumber(after_ms or '') or 0
  if ms ~= after_ms then return ms > after_ms end
  return after_number == '' or tonumber(number) > (tonumber(after_number or '') or -1)
end

-- How the job waits: its member of `waits`, until when, behind what, and the note. Nil when it does
-- not.
local function wait_of(id)
  local found = redis.pcall('HMGET', notes_of(id), 'waits', 'waits:until')
  if found.err or not found[1] or not found[2] then return nil end
  local until_ms, after, note = string.match(found[2], '^(%d+) (%S+) (.*)$')
  if not until_ms then return nil end
  return found[1], tonumber(until_ms), after, note
end

-- Ends a wait.
local function end_wait(id, member)
  redis.call('ZREM', WAITS, member)
  redis.call('HDEL', notes_of(id), 'waits', 'waits:until')
end

-- Writes fields into the notes of a job.
local function write_notes(id, ...)
  -- First: notes of which nobody knows would stay when their job ends.
  redis.call('SADD', NOTED, id)
  if type(redis.pcall('HSET', notes_of(id), ...)) == 'table' then
    -- A foreign writer has put something else there.
    redis.call('UNLINK', notes_of(id))
    redis.call('HSET', notes_of(id), ...)
  end
end
