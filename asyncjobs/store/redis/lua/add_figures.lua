#!lua flags=allow-oom
-- Adds what a worker has counted to the figures by minute and by hour. Each is a hash with a field
-- for each function: '<attempts> <failed>|<bucket>:<number> ...|<bucket>:<number> ...', the second
-- part for the time in the queue, the third for the run. Their keys are not among KEYS, for each
-- minute has another. They have the hash tag of the queue, so its slot.
-- KEYS: the queue's.
-- ARGV: 2 how many functions at the most; 3 for how many ms a minute is kept; 4 the same for an
--   hour; then for each function: its name, the minute since the epoch, its figures as in a field.
-- Result: how many were added.
local most, kept = tonumber(ARGV[2]), {minute = ARGV[3], hour = ARGV[4]}
-- The name under which those are added up for which there is no room.
local OTHERS, MOST_DIGITS = '', 15

local function read(text)
  local attempts, failed, queued, ran =
    string.match(text or '', '^(%d+) (%d+)|([%d: ]*)|([%d: ]*)$')
  -- No real count comes near: a reader refuses it.
  if not attempts or #attempts > MOST_DIGITS or #failed > MOST_DIGITS then return nil end
  local parts = {{}, {}}
  for place, part in ipairs({queued, ran}) do
    for bucket, number in string.gmatch(part, '(%d+):(%d+)') do
      if #number <= MOST_DIGITS then parts[place][bucket] = tonumber(number) end
    end
  end
  return {tonumber(attempts), tonumber(failed), parts[1], parts[2]}
end

local function write(figures)
  local texts = {}
  for place = 3, 4 do
    local pairs_of = {}
    for bucket, number in pairs(figures[place]) do
      pairs_of[#pairs_of + 1] = bucket .. ':' .. string.format('%.0f', number)
    end
    texts[#texts + 1] = table.concat(pairs_of, ' ')
  end
  return string.format('%.0f %.0f|%s|%s', figures[1], figures[2], texts[1], texts[2])
end

local function add(key, function_name, figures)
  local stored = redis.pcall('HGET', key, function_name)
  if type(stored) == 'table' then
    -- rule:19 figures that are spoiled begin anew
    redis.call('UNLINK', key)
    stored = false
  end
  -- rule:19 figures have a limit of functions
  if not stored and function_name ~= OTHERS and redis.call('HLEN', key) >= most then
    return add(key, OTHERS, figures)
  end
  local before = read(stored)
  if before then
    before[1], before[2] = before[1] + figures[1], before[2] + figures[2]
    for place = 3, 4 do
      for bucket, number in pairs(figures[place]) do
        before[place][bucket] = (before[place][bucket] or 0) + number
      end
    end
  end
  redis.call('HSET', key, function_name, write(before or figures))
end

local base, all, touched = string.sub(WAKE, 1, -5) .. 'figures:', {}, {}
for place = 5, #ARGV, 3 do
  local minute, figures = tonumber(ARGV[place + 1]), read(ARGV[place + 2])
  if not minute or not figures then return redis.error_reply('ERR bad figures') end
  all[#all + 1] = {ARGV[place], minute, figures}
end
for _, each in ipairs(all) do
  local function_name, minute, figures = unpack(each)
  local of_minute = string.format('%sminute:%.0f', base, minute)
  local of_hour = string.format('%shour:%.0f', base, math.floor(minute / 60))
  add(of_minute, function_name, figures)
  add(of_hour, function_name, figures)
  touched[of_minute], touched[of_hour] = kept.minute, kept.hour
end
-- rule:19 figures go after their time
for key, ttl in pairs(touched) do redis.call('PEXPIRE', key, ttl) end
return #all
