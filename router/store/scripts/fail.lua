-- A model has failed: it cools down, and everyone who waits for it is told at once.
-- ARGV: prefix, holder, model, error, log (JSON list), detail for the waiting (JSON), first delay (ms), longest delay (ms),
--   phase: failed, or stopping while the engine is still to be stopped
-- Returns the delay (ms).
local late = fenced(ARGV[2])
if late then return late end
local model = ARGV[3]
local key = P .. 'model:' .. model
local now = now_ms()
local failures = redis.call('HINCRBY', key, 'failures', 1)
local delay = math.min(tonumber(ARGV[7]) * 2 ^ math.min(failures - 1, 30), tonumber(ARGV[8]))
redis.call('SADD', P .. 'models', model)
redis.call('HSET', key, 'phase', ARGV[9], 'since', now, 'retry_at', string.format('%.0f', now + delay),
  'error', ARGV[4], 'log', ARGV[5], 'wanted', '', 'sleep', '')
event(now, 'failed', model, {'phase', ARGV[9], 'detail', ARGV[4], 'retry_in_ms', string.format('%.0f', delay)})
local detail = cjson.decode(ARGV[6])
detail.retry_after = delay / 1000
detail = cjson.encode(detail)
local waiting = redis.call('HGETALL', P .. 'waiting')
for i = 1, #waiting, 2 do
  local entry = cjson.decode(waiting[i + 1])
  if entry.model == model then
    give_up(now, waiting[i], 'failed')
    post(entry.worker, now, waiting[i], 'refused', detail)
  end
end
return delay
