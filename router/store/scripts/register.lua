-- A gateway worker appears, or comes back after Redis lost it; what it holds in memory is put back.
-- ARGV: prefix, worker, its life (ms), then for each request: kind (lease | wait), id, model, since (ms), entry
local now = now_ms()
redis.call('SADD', P .. 'workers', ARGV[2])
redis.call('SET', P .. 'worker:' .. ARGV[2], now, 'PX', ARGV[3])
for i = 4, #ARGV, 5 do
  local kind, id, model, since, entry = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local leases = P .. 'leases:' .. model
  if kind == 'lease' then
    redis.call('HSETNX', leases, id, since .. '|' .. entry)
  elseif redis.call('HEXISTS', leases, id) == 0 then
    redis.call('ZADD', P .. 'line', 'NX', since, id)
    redis.call('HSET', P .. 'waiting', id, entry)
  end
end
nudge()
return now
