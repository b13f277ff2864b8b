-- One consistent read. ARGV: prefix, model names...
-- Returns {now, {model hash, leases, model hash, leases, ...}, {id, joined, entry, ...}}
local models, line = {}, {}
for i = 2, #ARGV do
  models[#models + 1] = redis.call('HGETALL', P .. 'model:' .. ARGV[i])
  models[#models + 1] = redis.call('HLEN', P .. 'leases:' .. ARGV[i])
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
return {now_ms(), models, line}
