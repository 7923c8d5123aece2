#!lua flags=allow-oom
-- rule:6 what an outbox holds is not refused at maxmemory
-- Takes in what the outbox of another queue has for this one, each entry once.
-- KEYS: the queue's.
-- ARGV: 2 the source; 3 its last entry for this queue before these; 4 id_ttl_ms; 5 how many jobs
--   the history keeps; then the entries in their order: id, text.
-- Result: {the last entry that has taken effect here, how many jobs were stored, how many entries
--   could not be read, 1 when it has noted something for other queues}. Nothing has happened if the first one is before ARGV[3].
local INBOX, source, before = outbox_key('inbox'), ARGV[2], ARGV[3]
local now = store_now()
local placing, mark = open_placing(now), redis.call('HGET', INBOX, source) or '0-0'
-- rule:37 what a target has lost is not passed over
if is_before(mark, before) then return {mark, 0, 0, 0} end

-- Everything is checked before the first write, for an error later does not roll back.
local entries, asked, unread, last = {}, {}, 0, mark
for at = 6, #ARGV, 2 do
  -- rule:37 an entry that has taken effect does not do so again
  if is_before(last, ARGV[at]) then
    local kind, parts = read_post(ARGV[at + 1])
    last = ARGV[at]
    if kind == 'j' then
      local word, due = parts[2] or '', parts[3] or ''
      local priority = tonumber(string.sub(word, 1, 1))
      local is_good = READY[(priority or -1) + 1] and (due == '' or tonumber(due))
      if is_good and parts[5] and placing.read(parts[5]) then
        entries[#entries + 1] = {kind, parts, priority}
        if not string.find(word, 'n', 2, true) then asked[#asked + 1] = parts[1] end
      else
        unread = unread + 1
      end
    elseif kind and string.find('abes', kind, 1, true) then
      placing.need_barriers()
      entries[#entries + 1] = {kind, parts}
    elseif kind then
      -- A later release has posted it. One that knows it will relay it.
      return redis.error_reply('ERR unknown kind ' .. kind)
    else
      unread = unread + 1
    end
  end
end
placing.check()
redis.call('LLEN', WAKE)

local taken, stored = recall(now, asked), 0
for _, entry in ipairs(entries) do
  local kind, parts, how = entry[1], entry[2], 'there'
  local id, word, due, envelope, terms = parts[1], parts[2], parts[3], parts[4], parts[5]
  if kind ~= 'j' then
    -- rule:36 an end in another queue counts as one in this
    if not placing.barriers.receive(kind, parts) then unread = unread + 1 end
  elseif not taken[id] then
    local ms = math.max(tonumber(due) or now, now)
    -- rule:37 a job that is relayed keeps its terms
    how = placing.place(id, entry[3], ms, envelope, terms)
  end
  if not how or how == 'held' then
    stored = stored + 1
    -- A result may be kept for longer than the id. It would be taken for that of the new job.
    if not string.find(word, 'n', 2, true) then redis.call('UNLINK', outbox_key('result:') .. id) end
  end
end
-- rule:37 what has taken effect is noted in the same step
redis.call('HSET', INBOX, source, last)
redis.call('PERSIST', INBOX)
placing.end_refused(ARGV[4], ARGV[5])
if placing.barriers then
  placing.barriers.let_go(MOST_LET_GO, tonumber(ARGV[4]), tonumber(ARGV[5]))
  -- What an end in another queue lets go signals, too.
  if placing.barriers.is_ready() or placing.barriers.is_earlier() then wake() end
end
tally(now, 'e', stored)
-- rule:1 a job that was relayed pushes a token
if placing.is_ready() or placing.is_earlier() then wake() end
return {last, stored, unread, POSTED.any and 1 or 0}
