-- The terms of a job as a script gets them: '' for a job without any, else one part after the other,
-- each `<letter><length>:<bytes>`. It stands behind shared.lua, which says how scripts get what they
-- use. Whoever keeps a term says here what its part has to look like, and reads it.
--   u  its unique key: '<until><conflict> <ttl ms> <latest ms, or 0> <key>'. `until` is a mode of
--      unique.lua; `conflict` is '-' for the job that is there, 'r' to replace one that has not
--      started, 'h' to wait for one that has, too, 'q' to do only that
--   g  the gate that it has to pass; b  the barrier that it is behind
--   a  an arrival, which may stand there more than once: what a failure does ('c' cancel, 'r' run,
--      's' skip), the queue of the barrier ('' for this one) as '<length>:<queue>', and the barrier
--   n  the node of a flow: the queue of the flow ('' for this one), that of the job ('' if it is the
--      same) and the flow, each as '<length>:<text>', and the node
-- KEYS: none of its own.
-- ARGV: none of its own.
-- Result: none of its own.
local TERM_SHAPES = {u = '^[fsw][-rhq] %d+ %d+ .', g = '^[wcn]%d+ %d+:.', b = '^.',
  a = '^[crs]%d+:', n = '^%d+:'}

-- Texts in front of which their lengths stand: '<length>:<text>' so many times, then the rest. Nil
-- for what is malformed.
local function texts_of(part, number)
  local found, at = {}, 1
  for place = 1, number do
    local length, from = string.match(part, '^(%d+):()', at)
    if not length then return nil end
    at = from + tonumber(length)
    found[place] = string.sub(part, from, at - 1)
  end
  if at > #part then return nil end
  found[number + 1] = string.sub(part, at)
  return found
end

-- The parts by their letters, those of `a` as a list; nil for what is malformed.
local function read_terms(text)
  local terms, at = {}, 1
  while at <= #text do
    local letter, length, from = string.match(text, '^(%a)(%d+):()', at)
    local shape = letter and TERM_SHAPES[letter]
    if not shape then return nil end
    at = from + tonumber(length)
    local part = string.sub(text, from, at - 1)
    -- rule:37 terms are read whole or refused
    if at > #text + 1 or not string.match(part, shape) then return nil end
    -- rule:36 an arrival and a node are read whole or refused
    if letter == 'a' and not texts_of(string.sub(part, 2), 1) then return nil end
    if letter == 'n' and not texts_of(part, 3) then return nil end
    if letter == 'a' then
      terms.a = terms.a or {}
      table.insert(terms.a, part)
    elseif terms[letter] then
      return nil
    else
      terms[letter] = part
    end
  end
  return terms
end
