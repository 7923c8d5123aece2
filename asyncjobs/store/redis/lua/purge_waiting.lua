#!lua flags=allow-oom
-- rule:6 a purge is not refused at maxmemory
-- Cancels the jobs that wait in a queue, a part of them in each call. Running ones stay.
-- KEYS: the queue's.
-- ARGV: 2 id_ttl_ms; 3 result_ttl_ms; 4 outcome; 5 how many jobs the history keeps; 6 how many
--   jobs to look at; 7 name of the job function, '' for all; 8 which jobs, in this order: 'h'
--   held, 'r' ready, 's' scheduled; those in lanes are held or ready, those behind barriers held; 9
--   where to go on, '' at first; 10 1 to count them only.
-- Result: {how many, where to go on or '' at the end, 1 when something was noted for other queues}.
-- Held jobs come first: they would go on when the jobs before them are cancelled.
-- A place to go on is '<slot>:<entry>:<last entry>' among ready jobs, 'h:<cursor>:' among held ones,
-- 'b:<cursor>:' behind barriers, 'g:<cursor>:' among those in lanes, or
-- 's:<how many are left to look at>:<ms> <id>', those of the last one. The end is set when
-- a part begins: otherwise somebody who enqueues as fast as jobs are purged would keep it going for
-- ever.
local function_name, is_trial = ARGV[7], ARGV[10] == '1'
local wants_ready = string.find(ARGV[8], 'r', 1, true) ~= nil
local wants_held = string.find(ARGV[8], 'h', 1, true) ~= nil
local wants_scheduled = string.find(ARGV[8], 's', 1, true) ~= nil
local step = portion(tonumber(ARGV[6]))
check_cancelled()

local at, first, last = string.match(ARGV[9], '^(%w):([^:]*):(.*)$')
if not at then
  -- rule:21 a purge takes held jobs first, so that none goes on
  at = string.sub(ARGV[8], 1, 1)
  if at == 'r' then at = 'g' end
end
local function is_wanted(envelope)
  return function_name == '' or function_in(envelope) == function_name
end

-- The ids of wanted ready jobs, and where to go on.
local function look_at_ready(slot)
  if not last then
    local newest = redis.call('XREVRANGE', READY[slot], '+', '-', 'COUNT', 1)[1]
    first, last = '-', newest and newest[1] or '0-0'
  end
  local entries, ids = redis.call('XRANGE', READY[slot], first, last, 'COUNT', step), {}
  for position = 1, #entries do
    local entry, id = entries[position][1], entries[position][2][1]
    -- An entry that the index does not name was put there by a foreign writer.
    local is_named = redis.call('HGET', INDEX, id) == (slot - 1) .. ':' .. entry
    if is_named and is_wanted(entries[position][2][2]) then
      local pending = redis.pcall('XPENDING', READY[slot], GROUP, entry, entry, 1)
      local holder = not pending.err and pending[1] and pending[1][2]
      -- rule:8 a purge leaves running jobs alone
      if not holder or is_waiting(holder) then ids[#ids + 1] = id end
    end
  end
  if #entries == step then
    return ids, slot .. ':(' .. entries[#entries][1] .. ':' .. last
  elseif slot < 4 then
    return ids, (slot + 1) .. '::'
  end
  return ids, wants_scheduled and 's::' or ''
end

local function look_at_held(data)
  local found, ids = redis.call('HSCAN', data, first ~= '' and first or '0', 'COUNT', step), {}
  for position = 1, #found[2], 2 do
    if is_wanted(string.sub(found[2][position + 1], 2)) then ids[#ids + 1] = found[2][position] end
  end
  if found[1] ~= '0' then return ids, at .. ':' .. found[1] .. ':' end
  return ids, at == 'h' and 'b::' or 'g::'
end

local function look_at_gated()
  local gates, ids = gates_anyway(store_now()), {}
  local data = gates.base .. 'gated:data'
  local found = redis.call('HSCAN', data, first or '0', 'COUNT', step)
  for position = 1, #found[2], 2 do
    local id = found[2][position]
    local is_held = gates.held_by(id) ~= nil
    if is_held and wants_held or not is_held and wants_ready then
      if is_wanted(string.sub(found[2][position + 1], 2)) then ids[#ids + 1] = id end
    end
  end
  if found[1] ~= '0' then return ids, 'g:' .. found[1] .. ':' end
  return ids, wants_ready and '1::' or wants_scheduled and 's::' or ''
end

local function look_at_scheduled()
  local left = tonumber(first or '') or redis.call('ZCARD', SCHEDULED)
  -- Not a rank: jobs that become due between two parts would move the others past it.
  -- rule:20 a purge goes on behind the job that it has looked at last
  local after_ms, after_id = string.match(last or '', '^(%-?%d+) (.*)$')
  local number, ids = math.min(step, left), {}
  if number == 0 then return ids, '' end
  local found, _, behind = members_between(SCHEDULED, '', '', true, number, after_ms, after_id)
  for position = 1, #found, 2 do
    local stored = redis.call('HGET', SCHEDULED_DATA, found[position])
    if stored and redis.call('HGET', INDEX, found[position]) == 's' then
      if is_wanted(string.sub(stored, 2)) then ids[#ids + 1] = found[position] end
    end
  end
  left = left - number
  if left == 0 or behind <= number then return ids, '' end
  local place = string.format('s:%.0f:%.0f ', left, time_of(found[#found]))
  return ids, place .. found[#found - 1]
end

if last == '' then last = nil end
if first == '' then first = nil end
local ids, goes_on
if at == 'h' then
  ids, goes_on = look_at_held(UNIQUE_HELD)
elseif at == 'b' then
  ids, goes_on = look_at_held(barriers_key('data'))
elseif at == 'g' then
  ids, goes_on = look_at_gated()
elseif at == 's' then
  ids, goes_on = look_at_scheduled()
else
  ids, goes_on = look_at_ready(tonumber(at))
end
if is_trial then return {#ids, goes_on, 0} end
local purged, stored, result_keys, base = {}, {}, {}, string.sub(WAKE, 1, -5)
for position = 1, #ids do
  local removed = take_out(ids[position])
  if removed then
    purged[#purged + 1] = ids[position]
    stored[#stored + 1] = removed
    result_keys[#result_keys + 1] = base .. 'result:' .. ids[position]
  end
end
end_cancelled(purged, stored, result_keys, store_now(), ARGV)
-- rule:37 who purges hears that something waits for other queues
return {#purged, goes_on, POSTED.any and 1 or 0}
