-- Where a request or a would-be request stands. ARGV: prefix, id, model
-- Returns {phase, place or 0, expected ms or -1}; the router writes expected_at (a time) or expected_in (a span).
local now = now_ms()
local state = redis.call('HMGET', P .. 'model:' .. ARGV[3], 'phase', 'expected_at', 'expected_in')
local rank = redis.call('ZRANK', P .. 'line', ARGV[2])
local expected = -1
if state[2] and state[2] ~= '' then
  expected = math.max(0, tonumber(state[2]) - now)
elseif state[3] and state[3] ~= '' then
  expected = tonumber(state[3])
end
return {state[1] or 'asleep', rank and rank + 1 or 0, expected}
