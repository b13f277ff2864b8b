-- What was observed since the last time, taken out, and which callers are gone.
-- ARGV: prefix, holder, how long after its last end a caller counts as gone (ms), model names...
-- Returns {observation (JSON), ...}; a caller that is gone is one more observation, of a pause without end (-1).
local late = fenced(ARGV[2])
if late then return late end
local now, horizon = now_ms(), tonumber(ARGV[3])
for i = 4, #ARGV do
  local key = P .. 'callers:' .. ARGV[i]
  local callers = redis.call('HGETALL', key)
  for j = 1, #callers, 2 do
    local last = string.match(callers[j + 1], '^0|%d+|(%d+)$')
    if last and now - last > horizon then
      redis.call('HDEL', key, callers[j])
      observe(ARGV[i], callers[j], 'pause', -1)
    end
  end
end
local observations = redis.call('LRANGE', P .. 'observed', 0, -1)
redis.call('DEL', P .. 'observed')
return observations
