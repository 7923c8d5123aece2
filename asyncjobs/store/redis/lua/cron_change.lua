#!lua flags=allow-oom
-- Pauses, resumes or drops a schedule, or lets it go to another queue.
-- KEYS: the queue's; then the rule; then the list of its jobs.
-- ARGV: 2 id; 3 'pause', 'resume', 'take' or 'drop'; for a pause: 4 why; to resume: 4 the version,
--   5 the next tick; to let go: 4 the place that it goes to, 5 for how many ms a declaration
--   counts.
-- Result: 1, or 0 when nothing has changed; of 'take' {all fields and values, the jobs}, 0, or
--   'older' for a place that a newer one has replaced.
local id, what, key, ran = ARGV[2], ARGV[3], KEYS[OWN_KEYS + 1], KEYS[OWN_KEYS + 2]
check_cron()
local rule = read_rule(key)
if what == 'drop' then
  local was_there = redis.call('ZREM', CRON, id)
  redis.call('ZREM', CRON_NEXT, id)
  redis.call('UNLINK', key, ran)
  return rule and 1 or was_there
end
if not rule then return 0 end
if what == 'pause' then
  if rule[RULE_STATE] == 'p' then return 0 end
  redis.call('HSET', key, 'state', 'p', 'reason', ARGV[4])
  set_next(id, key, '')
elseif what == 'resume' then
  if rule[RULE_STATE] == '' or rule[RULE_VERSION] ~= ARGV[4] then return 0 end
  redis.call('HSET', key, 'state', '', 'reason', '')
  set_next(id, key, ARGV[5])
  tell_changed()
else
  local age = tonumber(ARGV[5])
  -- rule:23 a replaced queue does not get a schedule back while the newer one is declared
  if age and is_older(key, rule, ARGV[4], age, store_now()) then return 'older' end
  -- Until it is there nobody fires it here. Should the mover die, it is still known what was next.
  if rule[RULE_NEXT] ~= '' then
    local taken = string.format('%.0f', store_now())
    redis.call('HSET', key, 'moved', rule[RULE_NEXT], 'taken', taken)
  end
  set_next(id, key, '')
  return {redis.call('HGETALL', key), runs_of(ran, 0)}
end
return 1
