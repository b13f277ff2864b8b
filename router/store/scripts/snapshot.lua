-- One consistent read. ARGV: prefix, model names...
-- Returns {now, {model hash, leases, callers, model hash, leases, callers, ...}, {id, joined, entry, ...}, observations}
-- callers only of models that run: name, open|running|last end, ...
local models, line = {}, {}
for i = 2, #ARGV do
  models[#models + 1] = redis.call('HGETALL', P .. 'model:' .. ARGV[i])
  models[#models + 1] = redis.call('HLEN', P .. 'leases:' .. ARGV[i])
  local phase = redis.call('HGET', P .. 'model:' .. ARGV[i], 'phase')
  local running = phase == 'ready' or phase == 'starting' or phase == 'draining'
  models[#models + 1] = running and redis.call('HGETALL', P .. 'callers:' .. ARGV[i]) or {}
end
local places = redis.call('ZRANGE', P .. 'line', 0, -1, 'WITHSCORES')
for i = 1, #places, 2 do
  local entry = redis.call('HGET', P .. 'waiting', places[i])
  if entry then
    line[#line + 1] = places[i]
    line[#line + 1] = places[i + 1]
    line[#line + 1] = entry
  end
end
return {now_ms(), models, line, redis.call('LLEN', P .. 'observed')}
