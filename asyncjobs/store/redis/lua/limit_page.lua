#!lua flags=allow-oom
-- Some keys of limits as they stand: those of the parts of a queue in which keys are, one after the
-- other. A key that stands in a part before is left out.
-- KEYS: the queue's.
-- ARGV: 2 where to go on, '' at first; 3 how many at the most. Or, 2 '=' and 4 a limit, 5 a key: that
--   one alone.
-- Result: {now, where to go on or '', {limit, key, rule, 1 when an operator has set it, permits that
--   are taken, jobs that wait, since when the oldest does in ms or -1, when it opens in ms or -1,
--   ...}}. Of one key: nothing when nothing is known of its limit.
local now, most = store_now(), tonumber(ARGV[3])
local gates = gates_anyway(now)
gates.check()
-- A place to go on is '<part>:<what was looked at last there>'.
local NEXT = {p = 'w', w = 'r', r = 'c', c = 'o'}
-- Lanes of one key that are looked at.
local MOST_LANES = 1000
local rooms, base, answer = gates.rooms, gates.base, {}
gates.drop_holders(1000)

local function add(text)
  local use = rooms.use(text)
  local waiting, oldest = waiting_at(gates, text, MOST_LANES)
  local opens = use.closed or -1
  if use.kind == 'r' and rooms.room(use, 1) < 1 then opens = rooms.opens(use, 1) end
  for _, part in ipairs({use.limit, use.key, use.rule, use.is_set and 1 or 0,
    use.kind == 'c' and rooms.taken(use) or 0,
    waiting, oldest or -1, opens}) do
    answer[#answer + 1] = part
  end
end

local function has_permits(text)
  return #redis.call('ZRANGE', base .. 'permits', '[' .. text .. '\0', '(' .. text .. '\1', 'BYLEX',
    'LIMIT', 0, 1) > 0
end

local function has_lanes(text)
  return #redis.call('ZRANGE', base .. 'lanes:of', '[' .. text .. '\0', '(' .. text .. '\1', 'BYLEX',
    'LIMIT', 0, 1) > 0
end

local function is_owed(text)
  local use = rooms.use(text)
  return use.kind == 'r' and use.paid > now
end

local function is_closed(text) return rooms.use(text).closed ~= nil end

-- The use at the beginning of a member.
local function use_in(member)
  local size, at = string.match(member, '^[cr](%d+):()')
  local length, behind = string.match(member, '^(%d+):()', at + tonumber(size))
  return string.sub(member, 1, behind + tonumber(length) - 1)
end

-- Members of a sorted set by the uses in front of them, each once.
local function walk(key, after, is_wanted)
  local from = after == '' and '-' or '(' .. after .. '\1'
  for _ = 1, most do
    local found = redis.call('ZRANGE', key, from, '+', 'BYLEX', 'LIMIT', 0, 1)[1]
    if not found then return nil end
    local text = use_in(found)
    if is_wanted(text) then add(text) end
    after, from = text, '(' .. text .. '\1'
  end
  return after
end

local function scan(command, key, after, act)
  local found = redis.call(command, key, after == '' and '0' or after, 'COUNT', most)
  for position = 1, #found[2], 2 do act(found[2][position]) end
  return found[1] ~= '0' and found[1] or nil
end

local PARTS = {
  p = function(after) return walk(base .. 'permits', after, function() return true end) end,
  w = function(after)
    return walk(base .. 'lanes:of', after, function(text) return not has_permits(text) end)
  end,
  r = function(after)
    return scan('ZSCAN', base .. 'rates', after, function(text)
      if is_owed(text) and not has_lanes(text) then add(text) end
    end)
  end,
  c = function(after)
    return scan('HSCAN', base .. 'closed', after, function(text)
      local is_elsewhere = has_permits(text) or has_lanes(text) or is_owed(text)
      if is_closed(text) and not is_elsewhere then add(text) end
    end)
  end,
  o = function(after)
    return scan('HSCAN', base .. 'limits', after, function(field)
      local size, at = string.match(field, '^p(%d+):()')
      if not size then return end
      local limit = string.sub(field, at, at + tonumber(size) - 1)
      local key = string.sub(field, at + tonumber(size) + 1)
      local kind = string.sub(redis.call('HGET', base .. 'limits', 'c' .. limit) or 'c', 1, 1)
      local text = kind .. size .. ':' .. limit .. #key .. ':' .. key
      local is_elsewhere = has_permits(text) or has_lanes(text) or is_owed(text)
      if not is_elsewhere and not is_closed(text) then add(text) end
    end)
  end,
}

if ARGV[2] == '=' then
  local limit, key = ARGV[4], ARGV[5]
  local code = redis.call('HGET', base .. 'limits', 'c' .. limit)
  if code then add(string.sub(code, 1, 1) .. #limit .. ':' .. limit .. #key .. ':' .. key) end
  return {now, '', answer}
end
local part, after = string.match(ARGV[2], '^([pwrco]):(.*)$')
part, after = part or 'p', after or ''
local reached = PARTS[part](after)
local goes_on = ''
if reached then
  goes_on = part .. ':' .. reached
elseif NEXT[part] then
  goes_on = NEXT[part] .. ':'
end
if gates.is_ready then wake() end
return {now, goes_on, answer}
