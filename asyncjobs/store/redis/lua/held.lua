#!lua flags=allow-oom
-- The entries that a lease holds, read without touching their delivery counts.
-- KEYS: the queue's.
-- ARGV: 2 priority; then entry ids.
-- Result: {how many were looked at before they were too large together, {{{entry id,
--   {job id, envelope}}, crashes or nothing} for each that exists}}; of jobs with a gate, which are
--   asked for as priority 4, behind it the priority, and since when the job was ready.
local slot, found, bytes, looked = tonumber(ARGV[2]) + 1, {}, 0, 0
for position = 3, #ARGV do
  if bytes >= MAX_BYTES then break end
  looked = looked + 1
  local entry = redis.call('XRANGE', READY[slot], ARGV[position], ARGV[position])[1]
  if entry then
    local id = entry[2][1]
    local field = slot == 5 and 'g:' .. id or (slot - 1) .. ':' .. ARGV[position]
    local crashes = redis.call('HGET', CRASHES, field)
    local of = slot == 5 and gates_anyway(store_now()).of(id)
    found[#found + 1] = {entry, crashes, of and tonumber(string.sub(of.stay, 1, 1)) or 2,
      of and tonumber(string.sub(of.stay, 17)) or 0}
    bytes = bytes + #entry[2][2]
  end
end
return {looked, found}
