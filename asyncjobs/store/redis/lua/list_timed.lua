#!lua flags=allow-oom
-- A few scheduled, held or dead jobs in the order of their times, for a list.
-- KEYS: the queue's.
-- ARGV: 2 'scheduled', 'held', 'behind' a barrier or 'dead', or 'gated:ready' or 'gated:held' of those
--   in lanes; 3 'old' or 'new' first; 4 from, 5 before (ms or ''); 6 how many to look at; 7 bytes
--   after which it stops; 8 and 9 what a job must contain, see may_match; then of the job behind
--   which it begins, if there is one: 10 ms, 11 id.
-- Result: {now, looked at, their bytes, 1 when none is left, {ms, id} of the last one looked at or
--   nothing, {id, ms, what is stored, the job that holds the key of a held one, the barrier that one
--   is behind, the limit of one in a lane, or the event that a scheduled one waits for, or '', ...}}.
local times, data, is_dead = SCHEDULED, SCHEDULED_DATA, ARGV[2] == 'dead'
if is_dead then times, data = DEAD, DEAD_DATA end
local locks
if ARGV[2] == 'held' then
  times, data, locks = UNIQUE_SINCE, UNIQUE_HELD, open_locks(0)
end
local gates, is_held
if string.sub(ARGV[2], 1, 6) == 'gated:' then
  gates, is_held = gates_anyway(store_now()), ARGV[2] == 'gated:held'
  times, data = gates.base .. 'gated:since', gates.base .. 'gated:data'
end
local is_behind = ARGV[2] == 'behind'
if is_behind then times, data = barriers_key('since'), barriers_key('data') end
local has_waits = ARGV[2] == 'scheduled' and redis.call('EXISTS', WAITS) == 1
local found, _, left = members_between(times, ARGV[4], ARGV[5], ARGV[3] == 'old',
  tonumber(ARGV[6]), ARGV[10], ARGV[11])
local max_bytes, exact, lowered = tonumber(ARGV[7]), ARGV[8], ARGV[9]
local jobs, bytes, looked, last = {}, 0, 0, {}
-- One call for several jobs costs a tenth of a call for each. They are few, for nobody knows how
-- large they are before they are read.
local STEP = 16
while looked < #found / 2 do
  -- rule:11 a look at large jobs stops after so many bytes
  if bytes >= max_bytes then break end
  local ids, number = {}, math.min(STEP, #found / 2 - looked, math.max(2 * looked, 1))
  for offset = 1, number do ids[offset] = found[2 * (looked + offset) - 1] end
  local read = redis.call('HMGET', data, unpack(ids))
  for offset = 1, number do
    local ms, stored = time_of(found[2 * (looked + offset)]), read[offset] or ''
    bytes, last = bytes + #stored, {ms, ids[offset]}
    -- How a dead job ended is in the first line of its letter.
    local by = gates and gates.held_by(ids[offset])
    -- A job in a lane is held while its lane has no room, and ready otherwise.
    local is_wanted = not gates or is_held == (by ~= nil)
    local line = is_dead and lowered ~= '' and string.match(stored, '^[^\n]*') or stored
    if is_wanted and may_match(stored, exact, '') and may_match(line, '', lowered) then
      jobs[#jobs + 1] = ids[offset]
      jobs[#jobs + 1] = ms
      jobs[#jobs + 1] = stored
      local before = locks and (locks.holder_of(ids[offset])) or ''
      if gates then before = by or '' end
      if is_behind then before = behind_of(ids[offset]) or '' end
      if has_waits then before = event_of(ids[offset]) end
      jobs[#jobs + 1] = before
    end
  end
  looked = looked + number
end
return {store_now(), looked, bytes, looked >= left and 1 or 0, last, jobs}
