#!lua flags=allow-oom
-- A few scheduled or dead jobs in the order of their times, for a list.
-- KEYS: the queue's.
-- ARGV: 2 'scheduled' or 'dead'; 3 'old' or 'new' first; 4 from, 5 before (ms or ''); 6 how many
--   to look at; 7 bytes after which it stops; 8 bytes that a job must contain, or ''; then of the
--   job behind which it begins, if there is one: 9 ms, 10 id.
-- Result: {now, looked at, their bytes, 1 when none is left, {ms, id} of the last one looked at or
--   nothing, {id, ms, what is stored, ...}}.
local times, data = SCHEDULED, SCHEDULED_DATA
if ARGV[2] == 'dead' then times, data = DEAD, DEAD_DATA end
local found, _, left = members_between(times, ARGV[4], ARGV[5], ARGV[3] == 'old',
  tonumber(ARGV[6]), ARGV[9], ARGV[10])
local max_bytes, needle = tonumber(ARGV[7]), ARGV[8]
local jobs, bytes, looked, last = {}, 0, 0, {}
for position = 1, #found, 2 do
  -- rule:11 a look at large jobs stops after so many bytes
  if bytes >= max_bytes then break end
  local id, ms = found[position], time_of(found[position + 1])
  local stored = redis.call('HGET', data, id) or ''
  bytes, looked, last = bytes + #stored, looked + 1, {ms, id}
  if needle == '' or string.find(stored, needle, 1, true) then
    jobs[#jobs + 1] = id
    jobs[#jobs + 1] = ms
    jobs[#jobs + 1] = stored
  end
end
return {store_now(), looked, bytes, looked >= left and 1 or 0, last, jobs}
