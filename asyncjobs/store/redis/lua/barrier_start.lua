#!lua flags=allow-oom
-- Counts the start of a flow at barriers, once at each, also when memory is full.
-- KEYS: the queue's.
-- ARGV: 2 the flow; 3 id_ttl_ms; 4 how many jobs the history keeps; then barriers.
-- Result: 1, or 2 when the queue has something in its outbox.
local barriers = open_barriers(store_now())
barriers.check()
for position = 5, #ARGV do barriers.start(ARGV[position], ARGV[2]) end
barriers.let_go(MOST_LET_GO, tonumber(ARGV[3]), tonumber(ARGV[4]))
-- rule:1 what the start of a flow lets go signals
if barriers.is_ready() or barriers.is_earlier() or barriers.is_left then wake() end
return 1 + redis.call('EXISTS', outbox_key('outbox'))
