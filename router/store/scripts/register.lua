-- A gateway worker appears, or comes back after Redis lost it; what it holds in memory is put back.
-- ARGV: prefix, worker, its life (ms), generation, then for each request: kind (lease | wait), id, model, since (ms), entry
-- One that comes late, after a newer generation, changes nothing: its requests may have ended.
local now = now_ms()
local known = redis.call('GET', P .. 'worker:' .. ARGV[2])
if known and tonumber(known) > tonumber(ARGV[4]) then return now end
redis.call('SADD', P .. 'workers', ARGV[2])
redis.call('SET', P .. 'worker:' .. ARGV[2], ARGV[4], 'PX', ARGV[3])
for i = 5, #ARGV, 5 do
  local kind, id, model, since, entry = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local leases = P .. 'leases:' .. model
  redis.call('SADD', P .. 'models', model) -- where void looks for leases
  if kind == 'lease' then
    redis.call('HSETNX', leases, id, since .. '|' .. entry)
  elseif redis.call('HEXISTS', leases, id) == 0 then
    redis.call('ZADD', P .. 'line', 'NX', since, id)
    redis.call('HSET', P .. 'waiting', id, entry)
  end
end
nudge()
return now
