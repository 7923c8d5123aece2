#!lua flags=allow-oom
-- Reads schedules.
-- KEYS: the queue's.
-- ARGV: 2 onwards: their ids.
-- Result: for each its fields, or nil.
local found = {}
for position = 2, #ARGV do found[position - 1] = read_rule(rule_key(ARGV[position])) or false end
return found
