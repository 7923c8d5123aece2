#!lua flags=allow-oom
-- The entries that a lease holds, read without touching their delivery counts.
-- KEYS: the queue's.
-- ARGV: 2 priority; then entry ids.
-- Result: {how many were looked at before they were too large together, {{{entry id,
--   {job id, envelope}}, crashes or nothing} for each that exists}}.
local slot, found, bytes, looked = tonumber(ARGV[2]) + 1, {}, 0, 0
for position = 3, #ARGV do
  if bytes >= MAX_BYTES then break end
  looked = looked + 1
  local entry = redis.call('XRANGE', READY[slot], ARGV[position], ARGV[position])[1]
  if entry then
    local crashes = redis.call('HGET', CRASHES, (slot - 1) .. ':' .. ARGV[position])
    found[#found + 1] = {entry, crashes}
    bytes = bytes + #entry[2][2]
  end
end
return {looked, found}
