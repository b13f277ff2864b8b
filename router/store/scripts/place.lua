-- Where a request or a would-be request stands. ARGV: prefix, id, model
-- Returns {phase, place or 0, expected ms or -1, at most ms or -1}
local now = now_ms()
local key = P .. 'model:' .. ARGV[3]
local rank = redis.call('ZRANK', P .. 'line', ARGV[2])

-- the router writes `what`_at (a time, for who waits) or `what`_in (a span, for who may come)
local function told(what)
  local known = redis.call('HMGET', key, what .. '_at', what .. '_in')
  if known[1] and known[1] ~= '' then return math.max(0, tonumber(known[1]) - now) end
  if known[2] and known[2] ~= '' then return tonumber(known[2]) end
  return -1
end

return {redis.call('HGET', key, 'phase') or 'asleep', rank and rank + 1 or 0, told('expected'), told('at_most')}
