#!lua flags=allow-oom
-- rule:6 an event is not refused at maxmemory
-- Keeps an event, and wakes the jobs that wait for it, a part of them in each call. What is kept is
-- bounded, so memory that is full is no reason to leave them asleep.
-- KEYS: the queue's.
-- ARGV: 2 event ('<name><0><key>'); 3 value; 4 its token or ''; 5 for how many ms it is kept; 6 how
--   many events at the most; 7 how many bytes at the most; 8 how many waiting jobs to look at; then
--   to go on with an event: 9 its id, 10 the member of `waits` that was looked at last.
-- Result: {id of the event, how many were woken, where to go on or '' at the end}.
local event, value, token, ttl = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local most_events, most_bytes, most = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local MOST_DROPPED, LEFT_MS = 100, 600000
local now = store_now()
check_events()
check_waiting()
redis.call('LLEN', WAKE)

local function bytes_of(entry) return #field_of(entry, 'of') + #field_of(entry, 'value') end

-- Drops events that are too old or too many, but for the newest one.
local function drop_old()
  local newest = redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)[1]
  local total = tonumber(field_of(newest, 'total')) or 0
  for _ = 1, MOST_DROPPED do
    local oldest = redis.call('XRANGE', EVENTS, '-', '+', 'COUNT', 1)[1]
    if oldest[1] == newest[1] then return end
    -- All bytes that were ever kept stand behind each event, so nothing has to be counted.
    local bytes = total - (tonumber(field_of(oldest, 'total')) or 0) + bytes_of(oldest)
    local is_old = (tonumber(field_of(oldest, 'over')) or 0) <= now
    -- rule:11 the events that a queue keeps are bounded
    if not is_old and bytes <= most_bytes and redis.call('XLEN', EVENTS) <= most_events then
      return
    end
    redis.call('XDEL', EVENTS, oldest[1])
    redis.call('ZREM', EVENTS_OF, field_of(oldest, 'of') .. '\0' .. event_mark(oldest[1]))
  end
end

-- The newest event with this name and key, if it has the same token: its reply was lost.
local function find_again()
  local from, to = '(' .. event .. '\1', '(' .. event .. '\0'
  local newest = redis.call('ZRANGE', EVENTS_OF, from, to, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
  local place = newest and string.sub(newest, #event + 2) or ''
  local entry = entry_of(place)
  local stored = entry and redis.call('XRANGE', EVENTS, entry, entry)[1]
  return stored and field_of(stored, 'token') == token and place
end

-- Keeps the event; its mark.
local function keep()
  -- rule:4 an event that is sent again is kept once
  local before = token ~= '' and find_again()
  if before then return before end
  local last = redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)[1]
  local total = last and tonumber(field_of(last, 'total')) or 0
  total = string.format('%.0f', total + #event + #value)
  local fields = {'of', event, 'value', value, 'token', token,
    'over', string.format('%.0f', now + ttl), 'total', total}
  local entry = redis.pcall('XADD', EVENTS, string.format('%.0f-*', now), unpack(fields))
  if type(entry) == 'table' then
    -- The clock was set back: events keep their order, and the server finds the next id.
    entry = redis.call('XADD', EVENTS, '*', unpack(fields))
  end
  local place = event_mark(entry)
  redis.call('ZADD', EVENTS_OF, 0, event .. '\0' .. place)
  drop_old()
  -- A queue to which nobody sends any more keeps nothing.
  for _, key in ipairs({EVENTS, EVENTS_OF}) do
    -- Somebody else may keep events for longer.
    redis.call('PEXPIRE', key, ttl + LEFT_MS, 'NX')
    redis.call('PEXPIRE', key, ttl + LEFT_MS, 'GT')
  end
  return place
end

-- Makes a job ready that sleeps until its event. One that runs finds the event when it is settled.
local function wake_up(id, stored)
  local there = make_ready(priority_of(stored), id, string.sub(stored, 2), store_now())
  if type(there) == 'table' then
    -- One that cannot be made ready is due.
    redis.call('ZADD', SCHEDULED, string.format('%.0f', now), id)
    return
  end
  redis.call('ZREM', SCHEDULED, id)
  redis.call('HDEL', SCHEDULED_DATA, id)
  redis.call('HSET', INDEX, id, there)
end

local place = ARGV[9] or keep()
-- rule:31 an event wakes only the jobs that wait for its name and key
local from, to = '(' .. (ARGV[10] or event .. '\0'), '(' .. event .. '\1'
local members = redis.call('ZRANGE', WAITS, from, to, 'BYLEX', 'LIMIT', 0, most)
local woken, size, goes_on, signals = 0, 0, '', false
for position = 1, #members do
  local member = members[position]
  local id = string.sub(member, #event + 2)
  local own, until_ms, after, note = wait_of(id)
  local at = redis.call('HGET', INDEX, id)
  if own ~= member or not at then
    -- Somebody has deleted the job by hand.
    redis.call('ZREM', WAITS, member)
  -- rule:31 a job gets an event once, and none after its time-out
  elseif until_ms > now and is_behind(place, after) then
    write_notes(id, note, 'e' .. place .. ' ' .. value)
    end_wait(id, member)
    woken, size = woken + 1, size + #value
    local stored = at == 's' and redis.call('HGET', SCHEDULED_DATA, id)
    if stored then
      wake_up(id, stored)
      signals, size = true, size + #stored
    end
  end
  -- rule:11 an event is brought to many jobs in parts
  if size >= MAX_BYTES or position == most then
    goes_on = member
    break
  end
end
-- rule:1 a job that its event has woken signals
if signals then wake() end
return {place, woken, goes_on}
