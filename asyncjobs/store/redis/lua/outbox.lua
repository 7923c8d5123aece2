-- What a step of this queue causes in others. A script never touches the keys of a second queue, so
-- it notes that in the outbox. A worker relays it, in the order in which it was noted. It stands
-- behind shared.lua. These keys are made from the start of the queue's names: few scripts need them.
--   outbox        a stream, target -> '<kind><parts>'. What was relayed stays until the target was
--                 found to have it 10 s later: a server that restarts may have lost its last second
--   outbox:state  'at' -> the last entry that was relayed; 'to:<target>' -> the last one for it;
--                 'old' -> '<entry> <ms>' when the present look at what was relayed began
--   outbox:old    target -> the last entry for it that was relayed by then
--   inbox         source -> its last entry that has taken effect here
-- Kinds: 'j' a job: id, priority as in effects.lua, due ms or '', envelope, terms as in terms.lua.
--   'b' a barrier is raised: id, how many arrivals more, mode. 'a' arrivals at a barrier: id, how many,
--   the strongest failure; see barriers.lua. 'e' ends of nodes: the flow, then for each the node, the
--   queue of its job, the id of that, the code of its state, '1' when the flow may succeed, else '0'.
--   's' a flow starts at a barrier: id, the flow with its queue.
-- KEYS: none of its own.
-- ARGV: none of its own.
-- Result: none of its own.

-- Whether this script has noted anything.
local POSTED = {}

local function outbox_key(name) return string.sub(WAKE, 1, -5) .. name end

-- Fails for a key of a wrong type, before anything is written.
local function check_outbox() redis.call('XLEN', outbox_key('outbox')) end

-- Notes something for another queue. `kind` is one letter, the parts are any texts.
local function post_to(target, kind, ...)
  local text = {kind}
  for _, part in ipairs({...}) do text[#text + 1] = #part .. ':' .. part end
  redis.call('XADD', outbox_key('outbox'), '*', target, table.concat(text))
  -- A queue that was forgotten keeps it for a day only.
  redis.call('PERSIST', outbox_key('outbox'))
  POSTED.any = true
end

-- The kind and the parts of what was posted; nil for what a foreign writer has put there.
local function read_post(text)
  local parts, at = {}, 2
  while at <= #text do
    local length, from = string.match(text, '^(%d+):()', at)
    if not length then return nil end
    at = from + tonumber(length)
    if at > #text + 1 then return nil end
    parts[#parts + 1] = string.sub(text, from, at - 1)
  end
  return string.sub(text, 1, 1), parts
end

-- Whether the entry `one` comes before the entry `other`, by their ids.
local function is_before(one, other)
  local ms, number = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)-(%d+)$')
  if not ms or not other_ms then return ms == nil and other_ms ~= nil end
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms < other_ms or ms == other_ms and tonumber(number) < tonumber(other_number)
end

-- Begins a look at all that was relayed by now.
local function begin_look(now)
  local state, old = outbox_key('outbox:state'), outbox_key('outbox:old')
  local at, fields = redis.call('HGET', state, 'at'), redis.call('HGETALL', state)
  redis.call('UNLINK', old)
  for position = 1, #fields, 2 do
    if string.sub(fields[position], 1, 3) == 'to:' then
      redis.call('HSET', old, string.sub(fields[position], 4), fields[position + 1])
    end
  end
  redis.call('HSET', state, 'old', at .. ' ' .. string.format('%.0f', now))
end
