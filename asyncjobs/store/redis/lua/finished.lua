#!lua flags=allow-oom
-- Looks at the history: entries of jobs that have ended, newest first.
-- KEYS: the queue's.
-- ARGV: 2 the number of a job, before which the others have ended, or ''; 3 how many jobs at the
--   most, rounded up to whole entries; 4 how many bytes at the most, the same.
-- Result: {now, the number of the first job to show, the entries, 1 when there is more}. The id of
--   an entry begins with the number of its last job.
local before, most_jobs, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local found, jobs, bytes, more = {}, 0, 0, 1

local function add(entry)
  found[#found + 1] = entry
  local number = 1
  for place = 1, #entry[2] - 1, 2 do
    if entry[2][place] == 'jobs' then number = tonumber(entry[2][place + 1]) or 1 end
    bytes = bytes + #entry[2][place + 1]
  end
  jobs = jobs + number
end

local from = '+'
if before then
  -- The entry with the job `before` may have others in front of it.
  local at = string.format('%.0f', before)
  local straddling = redis.call('XRANGE', HISTORY, at, '+', 'COUNT', 1)
  if #straddling > 0 then add(straddling[1]) end
  -- It does not count: each call has to come to another entry.
  -- rule:11 a look at the history comes further, whatever its entries are
  jobs, bytes = 0, 0
  from = '(' .. at .. '-0'
end
-- Each round takes one entry at least, and the ring is bounded by its jobs.
while jobs < most_jobs and bytes < most_bytes do
  local entries = redis.call('XREVRANGE', HISTORY, from, '-', 'COUNT', 1)
  if #entries == 0 then
    more = 0
    break
  end
  add(entries[1])
  from = '(' .. entries[1][1]
end
-- Entries are kept whole, so the oldest one may have more jobs than the ring.
local newest, first = redis.call('XREVRANGE', HISTORY, '+', '-', 'COUNT', 1), 0
if #newest > 0 then
  local total, kept = string.match(newest[1][1], '^(%d+)-(%d+)$')
  first = math.max(tonumber(total) - tonumber(kept) + 1, 0)
end
return {store_now(), string.format('%.0f', first), found, more}
