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
  local caller = cjson.decode(entry).caller
  if kind == 'lease' then
    if redis.call('HEXISTS', leases, id) == 0 then
      count_caller(model, caller, 1, 0, now)
      lease(model, id, since, since, entry, caller, now)
    end
  elseif redis.call('HEXISTS', leases, id) == 0 then
    join(since, id, entry, model, caller, now)
  end
end
nudge()
return now
