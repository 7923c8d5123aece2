#!lua flags=allow-oom
-- Frees unique keys by hand. Their jobs go on.
-- KEYS: the queue's.
-- ARGV: 2 and on, for each: key, and the id of the job that was seen to hold it.
-- Result: one character for each: '1' that job held it, '0' it did not.
local locks, answer = open_locks(store_now()), {}
locks.check()
for at = 2, #ARGV, 2 do
  -- rule:21 a key is freed by hand only while its job holds it
  answer[#answer + 1] = locks.free(ARGV[at], ARGV[at + 1]) and '1' or '0'
end
if locks.is_ready or locks.is_earlier then wake() end
return table.concat(answer)
