#!lua flags=allow-oom
-- Reads what an outbox holds for other queues, and what is to be looked at there once more.
-- KEYS: the queue's.
-- ARGV: 2 how many entries at the most.
-- Result: {} for an empty outbox. Or {entries, last, look, 1 when there are more}. The entries, each
--   {id, target, text}; `last`: for each of their targets the entry before these, target and id in
--   turn; `look`: {} or {entry, target, id, target, id, ...}, what the targets should have.
local OUTBOX, STATE = outbox_key('outbox'), outbox_key('outbox:state')
if redis.call('EXISTS', OUTBOX) == 0 then return {} end
local LOOK_MS, now, most = 10000, store_now(), tonumber(ARGV[2])
local at = redis.call('HGET', STATE, 'at') or '0-0'
local entries, bytes, largest, more, before, known = {}, 0, 1, 0, {}, {}
while #entries < most do
  -- An entry may be as large as a job. So the first one is read alone.
  local step = 1
  if #entries > 0 then step = math.max(math.min(32, math.floor(PORTION_BYTES / largest)), 1) end
  local found = redis.call('XRANGE', OUTBOX, '(' .. at, '+', 'COUNT',
    math.min(step, most - #entries))
  for _, entry in ipairs(found) do
    local target, text = entry[2][1], entry[2][2]
    at = entry[1]
    entries[#entries + 1] = {at, target, text}
    bytes, largest = bytes + #text, math.max(largest, #text)
    if not known[target] then
      known[target] = true
      before[#before + 1] = target
      before[#before + 1] = redis.call('HGET', STATE, 'to:' .. target) or '0-0'
    end
  end
  if #found == 0 then break end
  -- A relay carries a bounded number of entries and bytes.
  if #entries >= most or bytes >= MAX_BYTES then
    more = #redis.call('XRANGE', OUTBOX, '(' .. at, '+', 'COUNT', 1)
    break
  end
end
local look, old, since = {}, string.match(redis.call('HGET', STATE, 'old') or '', '^(%S+) (%d+)$')
-- rule:37 what was relayed is looked at after longer than a server may lose
if old and (now - tonumber(since) >= LOOK_MS or tonumber(since) > now + STEP_MS) then
  look = redis.call('HGETALL', outbox_key('outbox:old'))
  table.insert(look, 1, old)
end
return {entries, before, look, more}
