-- A lease when the model is ready, else a place in the line.
-- ARGV: prefix, id, model, worker, entry (JSON), longest wait (ms), router grace (ms), the worker's generation, caller,
--   then limits, 0 for none: requests in flight on this model, the model's line, the caller's places in the line
-- Returns {verdict, ...}: go | lost | cooling, ms, error, log | away, reason | busy, phase, place |
--   full, whose, limit, the models whose line has to become shorter first... | wait, place
local id, model, worker, entry, caller = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[9]
local parallel = tonumber(ARGV[10])
local now = now_ms()
if redis.call('GET', P .. 'worker:' .. worker) ~= ARGV[8] then return {'lost'} end

local leases = P .. 'leases:' .. model
if redis.call('HEXISTS', leases, id) == 1 then return {'go'} end
local state = redis.call('HMGET', P .. 'model:' .. model, 'phase', 'retry_at')
local phase = state[1] or 'asleep'
local queued = tonumber(redis.call('HGET', P .. 'line:models', model) or 0)
if phase == 'ready' and (parallel == 0 or (queued == 0 and redis.call('HLEN', leases) < parallel)) then
  if not leave(id) then count_caller(model, caller, 1, 0, now) end
  lease(model, id, now, now, entry, caller, now)
  return {'go'}
end

local retry = tonumber(state[2] or 0)
if phase == 'failed' and retry > now then
  local why = redis.call('HMGET', P .. 'model:' .. model, 'error', 'log')
  count_refusal(model, 'failed')
  return {'cooling', retry - now, why[1] or '', why[2] or '[]'}
end
local router = redis.call('HMGET', P .. 'router', 'seen', 'trouble')
local trouble = router[2] and router[2] ~= '' and phase ~= 'starting' and phase ~= 'ready' and router[2]
if not trouble and now - tonumber(router[1] or 0) > tonumber(ARGV[7]) then trouble = 'router' end
if trouble then
  count_refusal(model, 'unavailable')
  return {'away', trouble}
end

local rank = redis.call('ZRANK', P .. 'line', id)
if not rank then
  if tonumber(ARGV[6]) <= 0 then
    count_refusal(model, 'no_wait')
    return {'busy', phase, redis.call('ZCARD', P .. 'line') + 1}
  end
  local mine = tonumber(redis.call('HGET', P .. 'line:callers', caller) or 0)
  for _, full in ipairs({{'model', queued, ARGV[11]}, {'caller', mine, ARGV[12]}}) do
    if tonumber(full[3]) > 0 and full[2] >= tonumber(full[3]) then
      count_refusal(model, 'line_full')
      return {'full', full[1], full[3], unpack(full[1] == 'model' and {model} or lines_of(caller))}
    end
  end
  join(now, id, entry, model, caller, now)
  rank = redis.call('ZRANK', P .. 'line', id)
  nudge()
end
return {'wait', rank + 1}
