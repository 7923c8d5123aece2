#!lua flags=allow-oom
-- Some unique keys and who holds them, for a list.
-- KEYS: the queue's.
-- ARGV: 2 where to go on, '0' at first; 3 about how many.
-- Result: {now, where to go on or '0', {key, mode, until ms, since ms, id, id of who gets it next
--   or '', ...}}. What a foreign writer has put there is left out.
local found, locks = redis.call('HSCAN', UNIQUE, ARGV[2], 'COUNT', ARGV[3]), {}
for position = 1, #found[2], 2 do
  local key = found[2][position]
  local mode, over, first, id = string.match(found[2][position + 1], '^([fsw]) (%d+) (%d+) (.*)$')
  if mode then
    local following = redis.call('HGET', UNIQUE_NEXT, key) or ''
    for _, part in ipairs({key, mode, over, first, id}) do locks[#locks + 1] = part end
    locks[#locks + 1] = string.match(following, '^%d+ %d+ (.*)$') or ''
  end
end
return {store_now(), found[1], locks}
