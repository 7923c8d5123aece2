#!lua flags=allow-oom
-- Schedules whose next tick has come, the earliest first.
-- KEYS: the queue's.
-- ARGV: 2 how many at the most.
-- Result: {the time, the earliest tick of the others or -1, for each schedule: id, fields}.
local now, answer = store_now(), {}
local due = redis.call('ZRANGE', CRON_NEXT, '-inf', string.format('%.0f', now), 'BYSCORE',
  'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
  local rule = read_rule(rule_key(id))
  local next_ms = rule and tonumber(rule[RULE_NEXT] or '')
  if not next_ms then
    -- A foreign writer has spoiled it. It fires no more until somebody puts it again, or its time
    -- would be due for ever and let workers ask without a pause.
    -- rule:23 a schedule that is spoiled keeps no worker busy
    redis.call('ZREM', CRON_NEXT, id)
  elseif next_ms > now then
    redis.call('ZADD', CRON_NEXT, rule[RULE_NEXT], id)
  else
    answer[#answer + 1] = id
    answer[#answer + 1] = rule
  end
end
local first = #answer / 2
local later = redis.call('ZRANGE', CRON_NEXT, first, first, 'WITHSCORES')
return {now, time_of(later[2] or -1), unpack(answer)}
