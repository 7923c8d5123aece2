-- How jobs end that waited and were taken out by a person: by a cancel, or by a purge of their
-- queue. It stands behind ended.lua, history.lua, barriers.lua and waiting.lua; shared.lua says how
-- scripts get what they use.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.

-- Fails for keys of a wrong type, before the first job is taken out: after an error nobody would be
-- told of its end, and its id would be neither there nor known.
local function check_cancelled()
  check_waiting()
  redis.call('ZCARD', CANCEL_HELD)
  redis.call('SISMEMBER', NOTED, '')
  for slot = 1, 3 do redis.call('HEXISTS', KNOWN[slot], '') end
  for _, key in ipairs({CANCEL, DEAD_DATA, PROGRESS}) do
    -- rule:8 a cancel removes nothing where it cannot do all that belongs to it
    redis.call('HEXISTS', key, '')
  end
  if redis.call('EXISTS', UNIQUE_OF) == 1 then open_locks(0).check() end
  if redis.call('EXISTS', ENDS) == 1 then open_barriers(0).check() end
end

-- Ends jobs that were taken out of their places. `stored`: what each was stored as; `result_keys`:
-- the key of each one's result; `args`: 2 id_ttl_ms; 3 result_ttl_ms, '0' when no result is kept;
-- 4 outcome; 5 how many jobs the history keeps.
local function end_cancelled(ids, stored, result_keys, now, args)
  local finished, waited, ttl, outcome = {}, {}, args[3], args[4]
  local kept = ttl ~= '0'
  for position = 1, #ids do
    local id = ids[position]
    mark(id, nil)
    finished[#finished + 1] = id
    finished[#finished + 1] = END['cancelled']
    waited[#waited + 1] = id
    waited[#waited + 1] = stored[position]
    if kept then redis.call('SET', result_keys[position], outcome, 'PX', ttl) end
    announce(id, kept and outcome or '')
  end
  local locks = redis.call('EXISTS', UNIQUE_OF) == 1 and open_locks(now)
  -- rule:21 a cancel frees the keys of jobs that waited
  if locks then locks.ended(ids) end
  drop_gates(ids)
  drop_notes(ids)
  -- Nor of the progress that an older release has kept.
  in_chunks('HDEL', PROGRESS, ids)
  remember(now, tonumber(args[2]), finished)
  tally(now, END['cancelled'], #ids)
  -- rule:19 a job that was cancelled while it waited is in the history
  record_waiting(now, tonumber(args[5]), waited, END['cancelled'])
  count_ends(finished, now, tonumber(args[2]), tonumber(args[5]))
  -- rule:1 a held job that goes on after a cancel signals
  if locks and (locks.is_ready or locks.is_earlier) then wake() end
end

-- Ends jobs that came to a gate without room and do not wait. `refused` has for each its id and what
-- it would have been stored as; `id_ttl`: for how many ms their ids stay known.
local function end_refused(refused, now, id_ttl, history)
  local ids, stored = {}, {}
  for place = 1, #refused, 2 do
    ids[#ids + 1] = refused[place]
    stored[#stored + 1] = refused[place + 1]
  end
  -- A job that does not wait is known as cancelled.
  end_cancelled(ids, stored, {}, now, {'', id_ttl, '0', '', history})
end
