#!lua flags=allow-oom
-- Marks schedules in code as declared now, or pauses those that nobody has declared for a time.
-- KEYS: the queue's.
-- ARGV: 2 '' to mark, then for each schedule: id, version. Or 2 the time in ms, 3 why they pause.
-- Result: one character for each schedule: '1' marked, '0' it is not there as it is declared. Or
--   the ids of those that are paused now.
local now = store_now()
-- Much longer than a move takes.
local MOVE_MS = 60000
check_cron()

-- Whether somebody has died who let the schedule go and never stored it elsewhere. Nobody fires it
-- until it is put.
local function is_stuck(key)
  local taken = tonumber(redis.call('HGET', key, 'taken') or '')
  return taken and now - taken > MOVE_MS
end

if ARGV[2] == '' then
  local marked = {}
  for position = 3, #ARGV, 2 do
    local key = rule_key(ARGV[position])
    local rule, is_marked = read_rule(key), '0'
    local is_as_declared = rule and rule[RULE_VERSION] == ARGV[position + 1]
    local is_there = is_as_declared and rule[RULE_CODE] == '1' and rule[RULE_STATE] ~= 'l'
    -- rule:23 a schedule whose move was broken off is put again
    if is_there and not is_stuck(key) then
      redis.call('HSET', key, 'declared', string.format('%.0f', now))
      is_marked = '1'
    end
    marked[#marked + 1] = is_marked
  end
  return table.concat(marked)
end
local paused = {}
for _, id in ipairs(redis.call('ZRANGE', CRON, 0, -1)) do
  local key = rule_key(id)
  local rule = read_rule(key)
  local may_lapse = rule and rule[RULE_CODE] == '1' and rule[RULE_STATE] == ''
  -- rule:23 a schedule that workers declare does not lapse
  if may_lapse and not is_fresh(rule, tonumber(ARGV[2]), now) then
    redis.call('HSET', key, 'state', 'l', 'reason', ARGV[3], 'lapsed', rule[RULE_NEXT] or '')
    set_next(id, key, '')
    paused[#paused + 1] = id
  end
end
return paused
