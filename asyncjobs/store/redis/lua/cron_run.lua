#!lua
-- Stores the jobs of ticks beside the plan of a schedule: by hand, or for a time that has passed.
-- KEYS: the queue's; then the rule; the list of its jobs; the result key of each job of a tick.
-- ARGV: 2 how many ticks; then each as the list of jobs names it; then their jobs as in effects.lua.
-- Result: '' for an unknown schedule. Or {a letter for each tick: F fired, R it ran before, S
--   another job has its key; and for ticks whose job did not go its usual way: place, how, id}.
local key, ran, number = KEYS[OWN_KEYS + 1], KEYS[OWN_KEYS + 2], tonumber(ARGV[2])
local now, rule = store_now(), read_rule(key)
if not rule then return '' end
check_cron()
redis.call('LLEN', WAKE)
local effects, failed = new_effects(3 + number, now)
if not effects then return failed end
local before, missing, letters, items, others = {}, {}, {}, {}, {}
for _, item in ipairs(runs_of(ran, 0)) do
  -- rule:23 a tick whose call went to another job is not run once more
  before[taken_over(item) or item] = true
end
-- rule:23 a tick that ran is not run once more
for tick = 1, number do missing[tick] = before[ARGV[2 + tick]] or false end
local was_there, met = store_ticks(effects, missing, now)
for tick = 1, number do
  local item, how, other = ARGV[2 + tick], unpack(met[tick] or {})
  letters[tick] = 'R'
  if how == 'there' then
    letters[tick] = 'S'
  elseif not missing[tick] and not was_there[tick] then
    letters[tick] = 'F'
    if how == 'replaced' then item = with_other(item, other) end
    items[#items + 1] = item
  end
  if how then for _, part in ipairs({tick, how, other}) do others[#others + 1] = part end end
end
note_runs(ran, items)
local fired = string.format('%.0f', (tonumber(rule[RULE_FIRED] or '') or 0) + #items)
redis.call('HSET', key, 'fired', fired)
return {table.concat(letters), others}
