-- What keeps the acting router from waking models; '' when nothing does.
-- ARGV: prefix, holder, reason
local late = fenced(ARGV[2])
if late then return late end
redis.call('HSET', P .. 'router', 'trouble', ARGV[3])
return 1
