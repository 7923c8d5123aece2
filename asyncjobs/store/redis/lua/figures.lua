#!lua flags=allow-oom
-- Reads figures, see add_figures.lua.
-- KEYS: the queue's.
-- ARGV: 2 'minute' or 'hour'; 3 the first, since the epoch; 4 the one behind the last; 5 how many
--   bytes at the most, rounded up to whole ones.
-- Result: {the next one to read, {number, its fields, ...}}.
local unit, first, behind, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local base, found, bytes = string.sub(WAKE, 1, -5) .. 'figures:' .. unit .. ':', {}, 0
-- One call looks at so many.
local MOST_UNITS = 500
behind = math.min(behind, first + MOST_UNITS)
local at = first
while at < behind and bytes < most do
  local fields = redis.pcall('HGETALL', string.format('%s%.0f', base, at))
  if not fields.err and #fields > 0 then
    found[#found + 1] = at
    found[#found + 1] = fields
    for place = 1, #fields do bytes = bytes + #fields[place] end
  end
  at = at + 1
end
return {at, found}
