-- All keys. Returns for each its fields as a flat list.
local found = {}
for _, id in ipairs(redis.call('HVALS', P .. 'keys:names')) do
  found[#found + 1] = redis.call('HGETALL', P .. 'keys:key:' .. id)
end
return found
