#!lua
-- Stores the jobs of ticks beside the plan of a schedule: by hand, or for a time that has passed.
-- KEYS: the queue's; then the rule; the list of its jobs; the result key of each job of a tick.
-- ARGV: 2 how many ticks; then each as the list of jobs names it; then their jobs as in
--   effects.lua.
-- Result: a letter for each tick: F fired, R it ran before; '' for an unknown schedule.
local key, ran, number = KEYS[OWN_KEYS + 1], KEYS[OWN_KEYS + 2], tonumber(ARGV[2])
local begin, now, rule = 3 + number, store_now(), read_rule(key)
if not rule then return '' end
check_cron()
redis.call('LLEN', WAKE)
local effects, failed = new_effects(begin)
if not effects then return failed end
local before, missing, letters, items = {}, {}, {}, {}
for _, item in ipairs(runs_of(ran, 0)) do before[item] = true end
-- rule:23 a tick that ran is not run once more
for tick = 1, number do missing[tick] = before[ARGV[2 + tick]] or false end
local was_there = store_ticks(effects, begin, missing, now)
for tick = 1, number do
  letters[tick] = 'R'
  if not missing[tick] and not was_there[tick] then
    letters[tick] = 'F'
    items[#items + 1] = ARGV[2 + tick]
  end
end
note_runs(ran, items)
local fired = string.format('%.0f', (tonumber(rule[RULE_FIRED] or '') or 0) + #items)
redis.call('HSET', key, 'fired', fired)
return table.concat(letters)
