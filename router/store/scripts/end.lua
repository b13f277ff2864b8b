-- Ends requests, wherever they are: leases and places in the line. Doing it twice does no harm.
-- ARGV: prefix, then for each request: id, model, its running time (ms; -1 when it did not run to its end)
-- Returns how many leases ended.
local now, ended, stir = now_ms(), 0, false
for i = 2, #ARGV, 3 do
  local id, model, ran = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local key = P .. 'model:' .. model
  if redis.call('HDEL', P .. 'leases:' .. model, id) == 1 then
    ended = ended + 1
    local state = redis.call('HMGET', key, 'phase', 'service_ms')
    if ran >= 0 then
      local known = tonumber(state[2] or ran)
      redis.call('HSET', key, 'last_used', now, 'service_ms', math.floor(known * 0.9 + ran * 0.1))
    else
      redis.call('HSET', key, 'last_used', now)
    end
    if state[1] == 'draining' and redis.call('HLEN', P .. 'leases:' .. model) == 0 then stir = true end
  end
  if redis.call('ZREM', P .. 'line', id) == 1 then stir = true end
  redis.call('HDEL', P .. 'waiting', id)
end
if stir then nudge() end
return ended
