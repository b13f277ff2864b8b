-- A lease when the model is ready, else a place in the line.
-- ARGV: prefix, id, model, worker, entry (JSON), longest wait (ms), router grace (ms), the worker's generation
-- Returns {verdict, ...}: go | lost | cooling, ms, error, log | away, reason | busy, phase, place | wait, place
local id, model, worker, entry = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = now_ms()
if redis.call('GET', P .. 'worker:' .. worker) ~= ARGV[8] then return {'lost'} end

local state = redis.call('HMGET', P .. 'model:' .. model, 'phase', 'retry_at')
local phase = state[1] or 'asleep'
if phase == 'ready' then
  redis.call('HSET', P .. 'leases:' .. model, id, now .. '|' .. entry)
  return {'go'}
end
if redis.call('HEXISTS', P .. 'leases:' .. model, id) == 1 then return {'go'} end

local retry = tonumber(state[2] or 0)
if phase == 'failed' and retry > now then
  local why = redis.call('HMGET', P .. 'model:' .. model, 'error', 'log')
  return {'cooling', retry - now, why[1] or '', why[2] or '[]'}
end
local router = redis.call('HMGET', P .. 'router', 'seen', 'trouble')
if router[2] and router[2] ~= '' and phase ~= 'starting' then return {'away', router[2]} end
if now - tonumber(router[1] or 0) > tonumber(ARGV[7]) then return {'away', 'router'} end

local rank = redis.call('ZRANK', P .. 'line', id)
if tonumber(ARGV[6]) <= 0 then
  return {'busy', phase, redis.call('ZCARD', P .. 'line') + 1}
end
if not rank then
  redis.call('ZADD', P .. 'line', now, id)
  redis.call('HSET', P .. 'waiting', id, entry)
  rank = redis.call('ZRANK', P .. 'line', id)
  nudge()
end
return {'wait', rank + 1}
