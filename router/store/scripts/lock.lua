-- The GPU lock. ARGV: prefix, take | keep | drop, router, holder ('' to take), life (ms)
-- take: returns the new holder "router:token" or false; keep: 1 while held; drop: 1 when it was held.
-- Tokens come from the clock and from the last one, so they grow even when Redis has lost its data.
local key = P .. 'gpu:lock'
local now = now_ms()
if ARGV[2] == 'take' then
  -- a router that was cut off and is back takes its own lock again, with a new token
  local held = redis.call('GET', key)
  if held and string.sub(held, 1, #ARGV[3] + 1) ~= ARGV[3] .. ':' then return false end
  local token = math.max(tonumber(redis.call('GET', P .. 'gpu:fence') or 0) + 1, now)
  redis.call('SET', P .. 'gpu:fence', string.format('%.0f', token))
  local holder = ARGV[3] .. ':' .. string.format('%.0f', token)
  redis.call('SET', key, holder, 'PX', ARGV[5])
  redis.call('HSET', P .. 'router', 'seen', now, 'holder', holder)
  event(now, 'router-acting', '', {'holder', holder})
  return holder
end
if redis.call('GET', key) ~= ARGV[4] then return 0 end
if ARGV[2] == 'keep' then
  redis.call('PEXPIRE', key, ARGV[5])
  redis.call('HSET', P .. 'router', 'seen', now)
else
  redis.call('DEL', key)
  redis.call('PUBLISH', P .. 'nudge', '1')
end
return 1
