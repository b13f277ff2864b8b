-- The key of a secret or of an id. ARGV: prefix, 'secret' | 'id', digest or id
-- Returns its fields as a flat list; an empty one when there is none.
local id = ARGV[3]
if ARGV[2] == 'secret' then id = redis.call('GET', P .. 'keys:secret:' .. ARGV[3]) end
return id and redis.call('HGETALL', P .. 'keys:key:' .. id) or {}
