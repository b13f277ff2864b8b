-- Where a request or a would-be request stands. ARGV: prefix, id, model
-- Returns {phase, place or 0, expected ms or -1, at most ms or -1}
local now = now_ms()
local key = P .. 'model:' .. ARGV[3]
local rank = redis.call('ZRANK', P .. 'line', ARGV[2])
-- the router writes an expectation as a moment (_at, for who waits) or a span (_in, for who may come); a limit as both,
-- and the moment counts for those who had joined the line by `told_to`
local told = redis.call('HMGET', key, 'phase', 'expected_at', 'expected_in', 'at_most_at', 'at_most_in', 'told_to')

local function left(moment, span)
  if moment and moment ~= '' then return math.max(0, tonumber(moment) - now) end
  if span and span ~= '' then return tonumber(span) end
  return -1
end

local joined = rank and tonumber(redis.call('ZSCORE', P .. 'line', ARGV[2]))
local heard = joined and told[6] and joined <= tonumber(told[6])
return {told[1] or 'asleep', rank and rank + 1 or 0, left(told[2], told[3]), left(heard and told[4], told[5])}
