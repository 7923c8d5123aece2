#!lua flags=allow-oom
-- A key is closed at maxmemory, too.
-- Lets nobody pass some keys for a time.
-- KEYS: the queue's.
-- ARGV: 2 the uses, as a gate of gates.lua; 3 for how many ms.
-- Result: 1.
local now, for_ms = store_now(), tonumber(ARGV[3])
local gates = gates_anyway(now)
local gate = gates.read_gate(ARGV[2])
if not gate or not for_ms then return redis.error_reply('ERR bad gate') end
gates.check()
gates.note_rules(gate)
for _, use in ipairs(gates.lane(gate.lane).uses) do gates.close_use(use.text, now + for_ms) end
if gates.is_ready or gates.is_earlier then wake() end
return 1
