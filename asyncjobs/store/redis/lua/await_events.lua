#!lua flags=allow-oom
-- rule:6 a wait is not refused at maxmemory
-- Lets jobs that the lease still holds wait for events.
-- KEYS: the queue's.
-- ARGV: 2 lease id; then for each wait: id, place ('<p>:<entry>'), event ('<name><0><key>'), note,
--   after, timeout_ms, what is written at the time-out.
-- Result: for each wait {'come' or 'over', what is written} | {'waits', until ms, now} | 0 when the
--   lease does not hold the job.
local lease, FIELDS, FIRST = ARGV[2], 7, 3
-- Events that are over, or that somebody has removed by hand, are looked past, at most so many.
local MOST_GONE = 100
local NEVER = 9e15
local now, answer = store_now(), {}
local is_known = redis.call('ZSCORE', WORKERS, lease)
check_events()
for at = FIRST, #ARGV, FIELDS do
  if not tonumber(ARGV[at + 5]) then return redis.error_reply('ERR bad time') end
end

-- The first event that is kept behind `after` and came before `until_ms`: its mark, and its value.
local function find(event, after, until_ms)
  for _ = 1, MOST_GONE do
    local found = redis.call('ZRANGE', EVENTS_OF, '(' .. event .. '\0' .. after,
      '(' .. event .. '\1', 'BYLEX', 'LIMIT', 0, 1)[1]
    if not found then return nil end
    local place = string.sub(found, #event + 2)
    -- rule:31 an event that comes after the time-out does not count
    if is_behind(place, string.format('%013.0f', until_ms)) then return nil end
    local entry = entry_of(place)
    local stored = entry and redis.call('XRANGE', EVENTS, entry, entry)[1]
    if not stored then
      redis.call('ZREM', EVENTS_OF, found)
    elseif (tonumber(field_of(stored, 'over')) or 0) > now then
      return place, field_of(stored, 'value')
    end
    after = place
  end
end

-- What one job waits for: how that stands.
local function await(id, event, note, after, timeout, over)
  -- rule:31 a wait that is asked for again has its old answer
  local written = redis.pcall('HGET', notes_of(id), note)
  if type(written) == 'string' then
    return {string.sub(written, 1, 1) == 'e' and 'come' or 'over', string.sub(written, 2)}
  end
  local member, until_ms, _, waits_for = wait_of(id)
  local is_same = member == event .. '\0' .. id and waits_for == note
  -- rule:31 a job that runs again in between goes on with the old end of its wait
  if not is_same then until_ms = now + timeout end
  local place, value = find(event, after, is_same and until_ms or NEVER)
  if not place and until_ms > now then
    if member and not is_same then end_wait(id, member) end
    member = event .. '\0' .. id
    write_notes(id, 'waits', member, 'waits:until',
      string.format('%.0f %s ', until_ms, after) .. note)
    redis.call('ZADD', WAITS, 0, member)
    return {'waits', until_ms, now}
  end
  local how, what = 'over', over
  if place then how, what = 'come', place .. ' ' .. value end
  write_notes(id, note, (how == 'come' and 'e' or 't') .. what)
  if member then end_wait(id, member) end
  return {how, what}
end

for at = FIRST, #ARGV, FIELDS do
  local wait = (at - FIRST) / FIELDS + 1
  local slot, entry = tonumber(string.sub(ARGV[at + 1], 1, 1)) + 1, string.sub(ARGV[at + 1], 3)
  answer[wait] = 0
  if is_known then
    local held = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1, lease)
    -- rule:31 only a job that the lease holds begins to wait
    if not held.err and #held == 1 then
      answer[wait] = await(ARGV[at], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4],
        tonumber(ARGV[at + 5]), ARGV[at + 6])
    end
  end
end
return answer
