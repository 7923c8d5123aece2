#!lua flags=allow-oom
-- A few entries of one priority that leases hold, in the order of the stream, for a list.
-- KEYS: the queue's.
-- ARGV: 2 priority; 3 'old' or 'new' first; 4 and 5 the first and the last id to look at; 6 how
--   many to look at; 7 bytes after which it stops; 8 and 9 what a job must contain, see may_match.
-- Result: {now, looked at, their bytes, 1 when none is left, the last id looked at or '',
--   {entry, id, envelope, lease, since when in ms it is held, 1 if it was asked to stop or 0,
--   progress, what its worker says about itself, its priority, ...}}.
local stream, oldest_first = READY[tonumber(ARGV[2]) + 1], ARGV[3] == 'old'
local from, to, most = ARGV[4], ARGV[5], tonumber(ARGV[6])
local max_bytes, exact, lowered = tonumber(ARGV[7]), ARGV[8], ARGV[9]
local now, jobs, bytes, looked, last = store_now(), {}, 0, 0, ''
local has_old = redis.call('EXISTS', PROGRESS) == 1

-- So many entries may become ready in one millisecond.
local MOST_AT_ONCE = 10000

-- In the stream of jobs with a gate each has its own.
local function priority_at(id)
  if ARGV[2] ~= '4' then return tonumber(ARGV[2]) end
  local of = gates_anyway(now).of(id)
  return of and tonumber(string.sub(of.stay, 1, 1)) or 2
end

local function pending_in(first, second, count)
  local found = redis.pcall('XPENDING', stream, GROUP, first, second, count)
  -- Without a group nothing is pending.
  if found.err and not string.find(found.err, 'NOGROUP', 1, true) then error(found.err) end
  return found.err and {} or found
end

-- The newest pending entries, the newest first, and whether those are all. XPENDING counts only
-- from the oldest on. So this searches by halves for a time from which on there are some, but no
-- more than `most`.
local function newest()
  local all, is_all = pending_in(from, to, most + 1), true
  if #all > most then
    is_all = false
    local low = tonumber(string.match(all[1][1], '^%d+'))
    local high = redis.call('XPENDING', stream, GROUP)[3]
    if to ~= '+' then high = to end
    high = tonumber(string.match(high, '%d+')) + 1
    all = nil
    while not all and high - low > 1 do
      local middle = math.floor((low + high) / 2)
      local found = pending_in(string.format('%.0f', middle), to, most + 1)
      if #found > most then
        low = middle
      elseif #found == 0 then
        high = middle
      else
        all = found
      end
    end
    -- Those of one millisecond cannot be parted by a time.
    all = all or pending_in(string.format('%.0f', low), to, MOST_AT_ONCE)
  end
  local reversed = {}
  for position = #all, math.max(#all - most, 0) + 1, -1 do
    reversed[#reversed + 1] = all[position]
  end
  return reversed, is_all
end

local found, is_all
if oldest_first then
  found = pending_in(from, to, most)
  is_all = #found < most
else
  found, is_all = newest()
end
for position = 1, #found do
  if bytes >= max_bytes then break end
  local entry, holder, idle = found[position][1], found[position][2], found[position][3]
  looked, last = looked + 1, entry
  if not is_waiting(holder) then
    local stored = redis.call('XRANGE', stream, entry, entry)[1]
    local id, envelope = stored and stored[2][1] or '', stored and stored[2][2] or ''
    bytes = bytes + #envelope
    if stored and may_match(envelope, exact, lowered) then
      local said = redis.pcall('HGET', WORKERS_INFO, holder)
      local asked = redis.pcall('HEXISTS', CANCEL, id)
      for _, value in ipairs({entry, id, envelope, holder, now - idle, asked == 1 and 1 or 0,
        progress_of(id, has_old), type(said) == 'string' and said or '', priority_at(id)}) do
        jobs[#jobs + 1] = value
      end
    end
  end
end
return {now, looked, bytes, looked >= #found and is_all and 1 or 0, last, jobs}
