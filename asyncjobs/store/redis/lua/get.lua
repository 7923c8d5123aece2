#!lua flags=allow-oom
-- What is known of some jobs.
-- KEYS: the queue's; then the result key of each job.
-- ARGV: 2 'full' with envelopes, or 'await' without, when the caller has subscribed to the
--   ends of these jobs: from now on, and for 10 s, they are announced; then job ids.
-- Result: for each job {state, priority, due ms, envelope, outcome, progress, lease id,
--   dead letter} with '' for what does not apply, and for a running job in 'full' since when
--   in ms it is held, and 1 if it was asked to stop, else 0; for a job that waits for the end of
--   another one -1, 0 and the id of that one; for one in a lane -1, 0, what it is held by or '', and
--   'limit'; for one behind a barrier -1, 0, what it is held by, and 'barrier'; for one that waits
--   for an event -1, 0 and that; state '' when the job is unknown, '?'
--   when only its outcome is left, which tells the state.
local now, ids = store_now(), {}
for position = 3, #ARGV do ids[position - 2] = ARGV[position] end
local states, full = recall(now, ids), ARGV[2] == 'full'
if ARGV[2] == 'await' then redis.call('SET', AWAITED, '1', 'PX', 10000) end

-- A caller that awaits an end needs no progress.
local has_old = full and redis.call('EXISTS', PROGRESS) == 1
local function shown_progress(id) return full and progress_of(id, has_old) or '' end

-- A job that waits for the end of the one that holds its unique key.
local function held(id)
  local holder, stored = open_locks(now).holder_of(id)
  if not stored then return nil end
  return {'held', priority_of(stored), '', full and string.sub(stored, 2) or '', '', '', '', '',
    -1, 0, holder}
end

-- A job that waits in a lane: it is held while its lane has no room.
local function gated(id)
  local gates = gates_anyway(now)
  local stored = redis.call('HGET', gates.base .. 'gated:data', id)
  if not stored then return nil end
  local by = gates.held_by(id)
  return {by and 'held' or 'ready', priority_of(stored), '', full and string.sub(stored, 2) or '',
    '', shown_progress(id), '', '', -1, 0, by or '', 'limit'}
end

-- A job that is behind a barrier.
local function behind(id)
  local barrier, stored = behind_of(id)
  if not barrier then return nil end
  return {'held', priority_of(stored), '', full and string.sub(stored, 2) or '', '', '', '', '',
    -1, 0, 'barrier ' .. barrier, 'barrier'}
end

local function queued(id, place)
  local slot, entry = tonumber(string.sub(place, 1, 1)) + 1, string.sub(place, 3)
  local state, holder, envelope, taken, asked = 'ready', '', '', nil, nil
  local pending = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1)
  if not pending.err and pending[1] and not is_waiting(pending[1][2]) then
    state, holder = 'running', pending[1][2]
    if full then
      taken, asked = now - pending[1][3], redis.call('HEXISTS', CANCEL, id)
    end
  end
  if full then
    local stored = redis.call('XRANGE', READY[slot], entry, entry)[1]
    if stored then envelope = stored[2][2] end
  end
  local priority = slot - 1
  if slot == 5 then
    local of = gates_anyway(now).of(id)
    priority = of and tonumber(string.sub(of.stay, 1, 1)) or 2
  end
  return {state, priority, '', envelope, '', shown_progress(id), holder, '', taken, asked}
end

local answer = {}
for position = 1, #ids do
  local id = ids[position]
  local place = redis.call('HGET', INDEX, id)
  local stored = place == 's' and redis.call('HGET', SCHEDULED_DATA, id)
  if stored then
    answer[position] = {'scheduled', priority_of(stored),
      redis.call('ZSCORE', SCHEDULED, id), full and string.sub(stored, 2) or '', '',
      shown_progress(id), '', '', -1, 0, full and event_of(id) or ''}
  elseif place == 'h' and held(id) then
    answer[position] = held(id)
  elseif place == 'g' and gated(id) then
    answer[position] = gated(id)
  elseif place == 'b' and behind(id) then
    answer[position] = behind(id)
  elseif place and not string.find('shgb', place, 1, true) then
    answer[position] = queued(id, place)
  else
    local outcome = redis.call('GET', KEYS[OWN_KEYS + position]) or ''
    local state, letter = states[id] or '', ''
    -- When the job has ended in another way, a letter under its id belongs to an earlier job.
    if state == '' or full and state == END['dead'] then
      letter = redis.call('HGET', DEAD_DATA, id) or ''
    end
    if state == '' and letter ~= '' then state = END['dead'] end
    if state == '' and outcome ~= '' then state = '?' end
    local priority = tonumber(string.sub(letter, 1, 1)) or ''
    answer[position] = {state, priority, '', '', outcome, '', '', string.sub(letter, 2)}
  end
end
return answer
