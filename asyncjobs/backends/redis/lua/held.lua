#!lua flags=allow-oom
-- The entries that a lease holds, read without touching their delivery counts.
-- KEYS: the queue's.
-- ARGV: 2 priority; then entry ids.
-- Result: {{entry id, {job id, envelope}}, crashes or nothing} for each that exists.
local slot, found = tonumber(ARGV[2]) + 1, {}
for position = 3, #ARGV do
  local entry = redis.call('XRANGE', READY[slot], ARGV[position], ARGV[position])[1]
  if entry then
    local crashes = redis.call('HGET', CRASHES, (slot - 1) .. ':' .. ARGV[position])
    found[#found + 1] = {entry, crashes}
  end
end
return found
