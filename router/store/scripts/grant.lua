-- Moves requests from the line to leases and tells their workers, if their model is still ready.
-- ARGV: prefix, holder, model, ids... Returns how many were granted.
local late = fenced(ARGV[2])
if late then return late end
local model = ARGV[3]
if redis.call('HGET', P .. 'model:' .. model, 'phase') ~= 'ready' then return 0 end
local now, granted = now_ms(), 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local entry = redis.call('HGET', P .. 'waiting', id)
  if entry then
    redis.call('ZREM', P .. 'line', id)
    redis.call('HDEL', P .. 'waiting', id)
    redis.call('HSET', P .. 'leases:' .. model, id, now .. '|' .. entry)
    post(cjson.decode(entry).worker, now, id, 'go')
    granted = granted + 1
  end
end
return granted
