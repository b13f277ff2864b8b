-- What requests have cost. ARGV: prefix, worker, number of the worker's batch, then for each key: id, USD, tokens
-- A batch counts once, also when its answer was lost and it is sent again. A key that was revoked is left alone.
local batches = P .. 'keys:batch:' .. ARGV[2]
if tonumber(redis.call('GET', batches) or 0) >= tonumber(ARGV[3]) then return 0 end
redis.call('SET', batches, ARGV[3], 'EX', 86400)
local now = now_ms()
for index = 4, #ARGV, 3 do
  local key = P .. 'keys:key:' .. ARGV[index]
  if redis.call('EXISTS', key) == 1 then
    redis.call('HINCRBYFLOAT', key, 'spend', ARGV[index + 1])
    redis.call('HINCRBY', key, 'tokens', ARGV[index + 2])
    redis.call('HSET', key, 'last_used', now)
  end
end
return 1
