-- The flows whose home is this queue, for the scripts in which their nodes end. It stands behind
-- shared.lua. What a script needs is made from the start of the queue's names.
--   flow:of:<id>      its fields: name, state, nodes, left, bad, opened, since, ended, keep,
--                     definition, unique, cancelled, and 'e:<code>' for the ends of each kind
--   flow:nodes:<id>   node -> '<length>:<queue of its job, '' for this one><length>:<id><definition>'
--   flow:names:<id>   the names of its nodes, in order
--   flow:ends:<id>    node -> '<code><1 when the flow may succeed, else 0><job as in flow:nodes>'
--   flows:<state>     id -> when the flow was opened
--   flows:names       name -> the flow that holds it
--   flows:over        id -> when its time is over: it goes then, or is cancelled if it was not started
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.
local FLOW_STATES = {'opened', 'running', 'succeeded', 'failed', 'cancelled'}
-- A flow that is not started for so long is cancelled; see store/flows.py.
local UNSTARTED_MS = 86400000

-- `check()`: raises an error where a key has a wrong type. `expect(id, number)`: the flow waits for
--   so many more ends; false for an unknown flow. `record(id, ends)`: nodes have ended: {node, queue
--   of the job or '', its id, code, whether the flow may succeed}, each.
-- `move(id, to)`: puts a flow into another state. `look(id)`: ends it if all ends have come.
-- `drop(id)`: drops it. `finish(id)`: ends it. `keys(id)`: all keys of a flow. `state(id)`: its state, or nil.
local function open_flows(now)
  local base, flows = string.sub(WAKE, 1, -5), {}
  local NAMES, OVER = base .. 'flows:names', base .. 'flows:over'

  local function key_of(id) return base .. 'flow:of:' .. id end

  function flows.keys(id)
    local keys = {key_of(id)}
    for _, part in ipairs({'nodes', 'names', 'ends'}) do
      keys[#keys + 1] = base .. 'flow:' .. part .. ':' .. id
    end
    return keys
  end

  function flows.check()
    for _, state in ipairs(FLOW_STATES) do redis.call('ZCARD', base .. 'flows:' .. state) end
    redis.call('ZCARD', OVER)
    redis.call('HEXISTS', NAMES, '')
  end

  function flows.state(id) return redis.call('HGET', key_of(id), 'state') or nil end

  local function is_final(state) return state ~= 'opened' and state ~= 'running' end

  function flows.move(id, to)
    local key = key_of(id)
    local from, opened = unpack(redis.call('HMGET', key, 'state', 'opened'))
    if from then redis.call('ZREM', base .. 'flows:' .. from, id) end
    redis.call('ZADD', base .. 'flows:' .. to, opened, id)
    redis.call('HSET', key, 'state', to)
  end

  -- The state of a flow when all ends have come.
  local function final_state(key)
    local state, bad, cancelled = unpack(redis.call('HMGET', key, 'state', 'bad', 'cancelled'))
    -- Before the start nothing has run.
    if cancelled == '1' or state == 'opened' or state == 'cancelled' then return 'cancelled' end
    return (tonumber(bad) or 0) > 0 and 'failed' or 'succeeded'
  end

  function flows.finish(id)
    local key = key_of(id)
    flows.move(id, final_state(key))
    local name, keep = unpack(redis.call('HMGET', key, 'name', 'keep'))
    redis.call('HSET', key, 'ended', string.format('%.0f', now))
    redis.call('ZADD', OVER, string.format('%.0f', now + tonumber(keep)), id)
    if redis.call('HGET', NAMES, name) == id then redis.call('HDEL', NAMES, name) end
  end

  function flows.look(id)
    local key = key_of(id)
    local state, left, nodes = unpack(redis.call('HMGET', key, 'state', 'left', 'nodes'))
    if not state then return end
    if is_final(state) then
      -- A job was revived: what is kept of the flow says how it is now.
      local present = final_state(key)
      if present ~= state then flows.move(id, present) end
    -- rule:36 a flow ends with the last of its nodes
    elseif tonumber(left) <= 0 and (state ~= 'opened' or tonumber(nodes) > 0) then
      flows.finish(id)
    end
  end

  -- UNLINK frees large keys in the background, so a flow of many nodes goes as one.
  function flows.drop(id)
    local state = flows.state(id)
    if state then redis.call('ZREM', base .. 'flows:' .. state, id) end
    redis.call('ZREM', OVER, id)
    redis.call('UNLINK', unpack(flows.keys(id)))
  end

  function flows.expect(id, number)
    local key = key_of(id)
    if redis.call('EXISTS', key) == 0 then return false end
    redis.call('HINCRBY', key, 'nodes', number)
    redis.call('HINCRBY', key, 'left', number)
    return true
  end

  function flows.record(id, ends)
    local key, ends_key = key_of(id), base .. 'flow:ends:' .. id
    if redis.call('EXISTS', key) == 0 then return end
    local sums, fields, names, left, bad, before = {}, {}, {}, 0, 0, {}
    for first = 1, #ends, CHUNK do
      local nodes = {}
      for place = first, math.min(first + CHUNK - 1, #ends) do nodes[#nodes + 1] = ends[place][1] end
      local found = redis.call('HMGET', ends_key, unpack(nodes))
      for offset = 1, #found do before[nodes[offset]] = found[offset] end
    end
    for _, about in ipairs(ends) do
      local node, queue, job, code, may = unpack(about)
      local old = before[node]
      -- rule:36 the end of a revived job replaces the one before and counts no more
      if old then
        local was = string.sub(old, 1, 1)
        sums[was] = (sums[was] or 0) - 1
        if string.sub(old, 2, 2) == '0' then bad = bad - 1 end
      else
        left = left + 1
      end
      sums[code] = (sums[code] or 0) + 1
      if not may then bad = bad + 1 end
      before[node] = code .. (may and '1' or '0') .. #queue .. ':' .. queue .. #job .. ':' .. job
      fields[#fields + 1] = node
      fields[#fields + 1] = before[node]
      names[#names + 1] = 0
      names[#names + 1] = node
    end
    in_chunks('HSET', ends_key, fields)
    in_chunks('ZADD', base .. 'flow:names:' .. id, names)
    for code, number in pairs(sums) do
      if number ~= 0 then redis.call('HINCRBY', key, 'e:' .. code, number) end
    end
    if left > 0 then redis.call('HINCRBY', key, 'left', -left) end
    if bad ~= 0 then redis.call('HINCRBY', key, 'bad', bad) end
    flows.look(id)
  end

  return flows
end
