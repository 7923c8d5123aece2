#!lua flags=allow-oom
-- A few entries of one priority that nobody runs, in the order of the stream, for a list.
-- KEYS: the queue's.
-- ARGV: 2 priority; 3 'old' or 'new' first; 4 and 5 the first and the last id to look at; 6 how
--   many to look at; 7 bytes after which it stops; 8 and 9 what a job must contain, see may_match.
-- Result: {now, looked at, their bytes, 1 when none is left, the last id looked at or '',
--   {entry, id, envelope, ...}}.
local stream, oldest_first = READY[tonumber(ARGV[2]) + 1], ARGV[3] == 'old'
local from, to, most = ARGV[4], ARGV[5], tonumber(ARGV[6])
local max_bytes, exact, lowered = tonumber(ARGV[7]), ARGV[8], ARGV[9]
local jobs, bytes, looked, last, is_end = {}, 0, 0, '', 0

-- Which of these entries run, by id. An entry that was given back is pending and waits.
local function running(first, second, count)
  if not oldest_first then first, second = second, first end
  local pending, held = redis.pcall('XPENDING', stream, GROUP, first, second, count), {}
  for position = 1, #pending do
    if not is_waiting(pending[position][2]) then held[pending[position][1]] = true end
  end
  return held
end

-- rule:11 a look at large jobs stops after so many bytes, in streams
while looked < most and bytes < max_bytes do
  -- As an exchange, in small steps: nobody knows how large entries are before they are read.
  local step, read = math.min(portion(32), most - looked), nil
  if oldest_first then
    read = redis.call('XRANGE', stream, from, to, 'COUNT', step)
  -- With nothing before `to`, XREVRANGE walks through the whole stream, from its end.
  -- rule:11 no list walks through a stream
  elseif #redis.call('XRANGE', stream, from, to, 'COUNT', 1) == 0 then
    read = {}
  else
    read = redis.call('XREVRANGE', stream, to, from, 'COUNT', step)
  end
  if #read > 0 then
    last = read[#read][1]
    local held = running(read[1][1], last, #read)
    for position = 1, #read do
      local entry, fields = read[position][1], read[position][2]
      bytes = bytes + #fields[2]
      -- rule:20 a running job is not listed among those that are ready
      if not held[entry] and may_match(fields[2], exact, lowered) then
        jobs[#jobs + 1] = entry
        jobs[#jobs + 1] = fields[1]
        jobs[#jobs + 1] = fields[2]
      end
    end
    looked = looked + #read
    if oldest_first then from = '(' .. last else to = '(' .. last end
  end
  if #read < step then
    is_end = 1
    break
  end
end
return {store_now(), looked, bytes, is_end, last, jobs}
