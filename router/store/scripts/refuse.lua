-- Takes requests out of the line and tells their workers why.
-- ARGV: prefix, holder, detail (JSON), ids... Returns how many there were.
local late = fenced(ARGV[2])
if late then return late end
local now, refused = now_ms(), 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local entry = redis.call('HGET', P .. 'waiting', id)
  if entry then
    redis.call('ZREM', P .. 'line', id)
    redis.call('HDEL', P .. 'waiting', id)
    post(cjson.decode(entry).worker, now, id, 'refused', ARGV[3])
    refused = refused + 1
  end
end
return refused
