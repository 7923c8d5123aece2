-- Barriers, for the scripts in which jobs come or end. It stands behind shared.lua, ended.lua,
-- history.lua, unique.lua and flows.lua. A barrier counts the ends of the jobs in front of it. When
-- all have come it falls: that is noted in the same step, and the jobs behind it are let go in parts.
--   barriers         id -> '<left> <mode> <failure>< started>': how many arrivals are left; 'a' when
--                    it waits for all, 'f' for the first failure, 'g' when it has fallen with that;
--                    the strongest failure; the flows that have started it, as '<length>:<flow>'
--   barriers:ends    id -> what the end of a living job counts down, as in terms.lua: its arrivals,
--                    then its node. '' is there while barriers:fallen is
--   barriers:fallen  '<verdict><length>:<barrier><more>' of those whose jobs are let go
--   barriers:let:<the same>  the ids of these jobs
-- Failures: 0 none, 1 run, 2 skip, 3 cancel. Verdicts: 'r' run, 's' skip, 'c' cancel.
-- See behind.lua for what is stored of the jobs behind.
-- KEYS: those of shared.lua.
-- ARGV: those of shared.lua.
-- Result: none of its own.
local ENDS = QUEUE['barriers:ends']

-- How many jobs a script lets go at the most. 10,000 would keep the server busy for 80 ms.
-- rule:11 a barrier that has fallen is emptied in parts
local MOST_LET_GO = 200

-- One function, for a script that meets no barrier pays for each that is made.
-- `check()`: raises an error where a key has a wrong type. That comes before the first write.
-- `lift(id, arrivals, mode)`: a barrier or a flow waits for so many more ends.
-- `enter(id, arrivals, node)`: a new job will count there. `hold(id, barrier, priority, envelope,
--   due)`: holds a new job; false when its barrier has fallen. After `gather()` both write what they
--   do at `flush()` only, for many jobs together.
-- `ended(pairs, is_skipped)`: jobs have ended: {id, code of the state, ...}.
-- `absent(terms)`: a job is not stored, for another one has its unique key.
-- `arrive(id, number, failure)`, `start(id, flow)`: arrivals from elsewhere. `receive(kind, parts)`:
--   what another queue has posted; false when it cannot be read.
-- `raise(queue, id, arrivals, mode)`: lifts a barrier of this queue ('') or another one.
-- `let_go(most, id_ttl, history)`: lets jobs go, or ends them, behind barriers that have fallen.
-- `is_ready()`, `is_earlier()`: whether a job was made ready, or is due before all others.
-- `is_left`: whether more of them wait to be let go.
local function open_barriers(now)
  local STANDING, FALLEN = string.sub(WAKE, 1, -5) .. 'barriers', barriers_key('fallen')
  local STRENGTH = {r = 1, s = 2, c = 3}
  local VERDICT = {[0] = 'r', 'r', 's', 'c'}
  local locks, flows = open_locks(now), open_flows(now)
  local barriers = {is_left = false}

  function barriers.check()
    -- rule:36 nothing is settled or stored where its end could not be counted
    for _, key in ipairs({STANDING, ENDS, barriers_key('of'), barriers_key('data'),
      SCHEDULED_DATA, INDEX}) do
      redis.call('HEXISTS', key, '')
    end
    redis.call('LLEN', FALLEN)
    check_outbox()
    redis.call('ZCARD', barriers_key('since'))
    redis.call('ZCARD', SCHEDULED)
    for slot = 1, 4 do redis.call('XLEN', READY[slot]) end
    flows.check()
  end

  function barriers.is_ready() return locks.is_ready end

  function barriers.is_earlier() return locks.is_earlier end

  local function read(id)
    local left, mode, failure, started = string.match(redis.call('HGET', STANDING, id) or '',
      '^(%d+) ([afg]) ([0-3])(.*)$')
    -- What a foreign writer has put there holds nobody.
    if not left then return nil end
    return {id = id, left = tonumber(left), mode = mode, failure = tonumber(failure),
      started = started}
  end

  local function write(standing)
    redis.call('HSET', STANDING, standing.id, string.format('%.0f %s %d', standing.left,
      standing.mode, standing.failure) .. standing.started)
  end

  -- Notes that the jobs behind a barrier are let go. That is one step, however many they are.
  local function fall(id, verdict)
    local behind, name = barriers_key('behind:') .. id, verdict .. #id .. ':' .. id
    if redis.call('EXISTS', behind) == 0 then return end
    -- One of the same name may have fallen just before.
    while redis.call('EXISTS', barriers_key('let:') .. name) == 1 do name = name .. '+' end
    redis.call('RENAME', behind, barriers_key('let:') .. name)
    redis.call('RPUSH', FALLEN, name)
    redis.call('HSET', ENDS, '', '1')
    barriers.is_left = true
  end

  function barriers.lift(id, number, mode)
    -- rule:36 a success that adds to its flow lets it wait for that
    if flows.expect(id, number) then return end
    local standing = read(id)
    -- One that waits for nobody has fallen: nobody would ever let it fall.
    if not standing and number > 0 then
      standing = {id = id, left = 0, mode = mode, failure = 0, started = ''}
    end
    if standing and number > 0 then
      standing.left = standing.left + number
      write(standing)
    end
  end

  function barriers.raise(queue, id, number, mode)
    -- rule:36 a success raises barriers of other queues, too
    if queue ~= '' then
      post_to(queue, 'b', id, number, mode)
    else
      barriers.lift(id, tonumber(number), mode)
    end
  end

  function barriers.receive(kind, parts)
    local id, number, third = parts[1], tonumber(parts[2] or ''), parts[3]
    if kind == 'b' and number and (third == 'a' or third == 'f') then
      barriers.lift(id, number, third)
    elseif kind == 'a' and number and tonumber(third or '') then
      barriers.arrive(id, number, tonumber(third))
    elseif kind == 's' and third == nil and parts[2] then
      barriers.start(id, parts[2])
    elseif kind == 'e' and #parts % 5 == 1 then
      local ends = {}
      for at = 2, #parts, 5 do
        local node, queue, job, code, may = unpack(parts, at, at + 4)
        ends[#ends + 1] = {node, queue, job, code, may == '1'}
      end
      flows.record(id, ends)
    else
      return false
    end
    return true
  end

  function barriers.arrive(id, number, failure)
    local standing = read(id)
    -- rule:36 an arrival at a barrier that has fallen counts nothing
    if not standing then return end
    standing.left = standing.left - number
    -- rule:36 the strongest of several failures decides
    standing.failure = math.max(standing.failure, failure)
    -- rule:36 a barrier that waits for a failure falls with the first one
    if standing.mode == 'f' and standing.failure > 0 then
      standing.mode = 'g'
      fall(id, 'r')
    end
    -- rule:36 a barrier falls when all arrivals have come
    if standing.left > 0 then
      write(standing)
      return
    end
    redis.call('HDEL', STANDING, id)
    fall(id, standing.mode == 'a' and VERDICT[standing.failure] or 's')
  end

  function barriers.start(id, flow)
    local standing, mark = read(id), ' ' .. #flow .. ':' .. flow
    -- rule:36 the start of a flow counts once at a barrier
    if not standing or string.find(standing.started, mark, 1, true) then return end
    standing.started = standing.started .. mark
    write(standing)
    barriers.arrive(id, 1, 0)
  end

  -- What is written of the new jobs of a batch, by its key: the fields of hashes, the scores of
  -- `since`, and for each barrier the jobs behind it.
  local function new_batch()
    return {ends = {}, of = {}, data = {}, index = {}, since = {}, behind = {}, standing = {}}
  end
  local batch, gathers = new_batch(), false

  function barriers.flush()
    in_chunks('HSET', ENDS, batch.ends)
    in_chunks('HSET', barriers_key('of'), batch.of)
    in_chunks('HSET', barriers_key('data'), batch.data)
    in_chunks('HSET', INDEX, batch.index)
    in_chunks('ZADD', barriers_key('since'), batch.since)
    for barrier, ids in pairs(batch.behind) do
      in_chunks('RPUSH', barriers_key('behind:') .. barrier, ids)
    end
    batch = new_batch()
  end

  -- A thousand jobs of a flow would be seven thousand commands, and each takes longer than what it
  -- does. What the script reads of a job that it has placed is not there before `flush`.
  function barriers.gather() gathers = true end

  function barriers.enter(id, terms)
    local text = {}
    for _, part in ipairs(terms.a or {}) do text[#text + 1] = 'a' .. #part .. ':' .. part end
    if terms.n then text[#text + 1] = 'n' .. #terms.n .. ':' .. terms.n end
    if #text == 0 then return end
    local ends = batch.ends
    ends[#ends + 1], ends[#ends + 2] = id, table.concat(text)
    if not gathers then barriers.flush() end
  end

  function barriers.hold(id, barrier, priority, envelope, due)
    if batch.standing[barrier] == nil then batch.standing[barrier] = read(barrier) or false end
    local standing = batch.standing[barrier]
    -- rule:36 a job goes on at once when its barrier has fallen
    if not standing or standing.mode == 'g' then return false end
    local of, data, since, index = batch.of, batch.data, batch.since, batch.index
    of[#of + 1], of[#of + 2] = id, string.format('%.0f ', due) .. barrier
    data[#data + 1], data[#data + 2] = id, priority .. envelope
    since[#since + 1], since[#since + 2] = string.format('%.0f', now), id
    index[#index + 1], index[#index + 2] = id, 'b'
    batch.behind[barrier] = batch.behind[barrier] or {}
    table.insert(batch.behind[barrier], id)
    if not gathers then barriers.flush() end
    return true
  end

  -- What the ends of one step bring, counted together: 10,000 arrivals at one barrier would be
  -- 10,000 reads and writes of it.
  local function new_sums()
    local sums, order = {}, {}

    -- What is counted together: by its kind, its queue ('' is this one) and its id.
    local function sum_of(kind, queue, id)
      local key = kind .. #queue .. ':' .. queue .. id
      if not sums[key] then
        sums[key] = {kind = kind, queue = queue, id = id, number = 0, failure = 0, ends = {}}
        order[#order + 1] = sums[key]
      end
      return sums[key]
    end

    function sums.arrive(queue, id, failure)
      local sum = sum_of('a', queue, id)
      sum.number, sum.failure = sum.number + 1, math.max(sum.failure, failure)
    end

    function sums.record(queue, flow, ...) table.insert(sum_of('e', queue, flow).ends, {...}) end

    local function post(sum)
      if sum.kind == 'a' then
        post_to(sum.queue, 'a', sum.id, tostring(sum.number), tostring(sum.failure))
        return
      end
      -- A call takes so many arguments at the most.
      for first = 1, #sum.ends, CHUNK do
        local parts = {sum.id}
        for place = first, math.min(first + CHUNK - 1, #sum.ends) do
          local node, queue, job, code, may = unpack(sum.ends[place])
          for _, part in ipairs({node, queue, job, code, may and '1' or '0'}) do
            parts[#parts + 1] = part
          end
        end
        post_to(sum.queue, 'e', unpack(parts))
      end
    end

    function sums.apply()
      for _, sum in ipairs(order) do
        -- rule:36 an end that counts in another queue goes into the outbox
        if sum.queue ~= '' then
          post(sum)
        elseif sum.kind == 'a' then
          barriers.arrive(sum.id, sum.number, sum.failure)
        else
          flows.record(sum.id, sum.ends)
        end
      end
    end

    return sums
  end

  -- Adds what the end of one job brings. `text`: as in barriers:ends.
  local function add_end(sums, id, state, text, is_skipped)
    -- rule:36 what is skipped counts as a success for those behind it
    local has_failed = state ~= END['succeeded'] and not is_skipped
    local allowed, at = nil, 1
    while at <= #text do
      local letter, length, from = string.match(text, '^(%a)(%d+):()', at)
      if not letter then return end
      at = from + tonumber(length)
      local part = string.sub(text, from, at - 1)
      if letter == 'a' then
        local how, found = string.sub(part, 1, 1), texts_of(string.sub(part, 2), 1)
        -- rule:36 a failure is allowed when each edge behind it says so
        allowed = allowed ~= false and how ~= 'c'
        sums.arrive(found[1], found[2], has_failed and STRENGTH[how] or 0)
      else
        local found = texts_of(part, 3)
        local may = not has_failed or allowed == true
        sums.record(found[1], found[3], found[4], found[2], id, state, may)
      end
    end
  end

  function barriers.ended(pairs_of, is_skipped)
    local sums, gone = new_sums(), {}
    for first = 1, #pairs_of, 2 * CHUNK do
      local last, ids = math.min(first + 2 * CHUNK - 1, #pairs_of), {}
      for place = first, last, 2 do ids[#ids + 1] = pairs_of[place] end
      local found = redis.call('HMGET', ENDS, unpack(ids))
      for offset = 1, #found do
        if found[offset] and ids[offset] ~= '' then
          gone[#gone + 1] = ids[offset]
          local state = pairs_of[first + 2 * offset - 1]
          add_end(sums, ids[offset], state, found[offset], is_skipped)
        end
      end
    end
    -- rule:36 the end of a job counts once
    in_chunks('HDEL', ENDS, gone)
    sums.apply()
  end

  function barriers.absent(id, terms)
    local sums = new_sums()
    for _, part in ipairs(terms.a or {}) do
      add_end(sums, id, END['discarded'], 'a' .. #part .. ':' .. part, false)
    end
    if terms.n then add_end(sums, id, END['discarded'], 'n' .. #terms.n .. ':' .. terms.n, false) end
    sums.apply()
  end

  -- Ends jobs that must not run: {id, what is stored of it, ...}.
  local function end_all(waited, verdict, id_ttl, history)
    local state = verdict == 's' and END['discarded'] or END['cancelled']
    local ids, finished, is_awaited = {}, {}, redis.call('EXISTS', AWAITED) == 1
    for place = 1, #waited, 2 do
      ids[#ids + 1] = waited[place]
      finished[#finished + 1] = waited[place]
      finished[#finished + 1] = state
      if is_awaited then announce(waited[place], '') end
    end
    in_chunks('HDEL', INDEX, ids)
    if redis.call('EXISTS', UNIQUE_OF) == 1 then locks.ended(ids) end
    drop_gates(ids)
    drop_notes(ids)
    remember(now, id_ttl, finished)
    tally(now, state, #ids)
    record_waiting(now, history, waited, state)
    -- rule:36 what must not run ends, and its end counts on
    barriers.ended(finished, verdict == 's')
  end

  -- Lets these jobs go, or ends them; the bytes of their envelopes.
  local function pass_on(name, ids, id_ttl, history)
    local verdict = string.sub(name, 1, 1)
    local length, from = string.match(name, '^%a(%d+):()')
    local barrier = string.sub(name, from, from + tonumber(length) - 1)
    local waited, index, out, size = {}, {}, {}, 0
    local gates = gates_here(now)
    local held = all_behind(ids)
    for place, id in ipairs(ids) do
      local own, due, stored = unpack(held[place] or {})
      -- It may have been cancelled, and its id used again.
      if own == barrier then
        size, out[#out + 1] = size + #stored, id
        -- One that does not wait at its gate is cancelled there.
        local is_refused = verdict == 'r' and gates and due <= now and gates.is_refused(id, waited)
        if verdict == 'r' and not is_refused then
          index[#index + 1] = id
          index[#index + 1] = locks.put(id, priority_of(stored), string.sub(stored, 2), due)
        else
          waited[#waited + 1] = id
          waited[#waited + 1] = stored
        end
      end
    end
    drop_behind(out)
    in_chunks('HSET', INDEX, index)
    if #waited > 0 then end_all(waited, verdict, id_ttl, history) end
    return size
  end

  function barriers.let_go(most, id_ttl, history)
    local size = 0
    -- Each round lets jobs go, or drops a barrier without any.
    for _ = 1, 2 * most do
      local name = redis.call('LINDEX', FALLEN, 0)
      if not name or most <= 0 or size >= MAX_BYTES then break end
      local let = barriers_key('let:') .. name
      local ids = redis.call('LPOP', let, math.min(most, 50))
      if ids then
        most = most - #ids
        size = size + pass_on(name, ids, id_ttl, history)
      end
      if redis.call('EXISTS', let) == 0 then redis.call('LREM', FALLEN, 1, name) end
    end
    barriers.is_left = redis.call('EXISTS', FALLEN) == 1
    -- rule:36 nothing is left of a barrier whose jobs were let go
    if not barriers.is_left then redis.call('HDEL', ENDS, '') end
  end

  return barriers
end

-- What a script does behind the ends of jobs that no exchange has settled: it counts them, lets a
-- part of the jobs go, and signals. `pairs_of`: as for `ended`.
local function count_ends(pairs_of, now, id_ttl, history)
  if redis.call('EXISTS', ENDS) == 0 then return end
  local barriers = open_barriers(now)
  barriers.ended(pairs_of, false)
  barriers.let_go(MOST_LET_GO, id_ttl, history)
  -- rule:1 what a cancel lets go signals
  if barriers.is_ready() or barriers.is_earlier() or barriers.is_left then wake() end
end
