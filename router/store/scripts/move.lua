-- A model's phase changes, if it still is what the router thinks.
-- ARGV: prefix, holder, model, from (comma list), to, idle (1: only without leases), event, detail, then fields and values
-- Returns 1 when it was done.
local late = fenced(ARGV[2])
if late then return late end
local model, to = ARGV[3], ARGV[5]
local key = P .. 'model:' .. model
local phase = redis.call('HGET', key, 'phase') or 'asleep'
if not string.find(',' .. ARGV[4] .. ',', ',' .. phase .. ',', 1, true) then return 0 end
if ARGV[6] == '1' and redis.call('HLEN', P .. 'leases:' .. model) > 0 then return 0 end
local now = now_ms()
redis.call('SADD', P .. 'models', model)
redis.call('HSET', key, 'phase', to, 'since', now)
if #ARGV > 8 then redis.call('HSET', key, unpack(ARGV, 9)) end
if to == 'ready' then redis.call('HSET', key, 'last_used', now) end
-- a residency begins when the engine has loaded, not when a gate is opened again
if to == 'ready' and phase ~= 'draining' then redis.call('HSET', key, 'ready_at', now) end
event(now, ARGV[7], model, {'phase', to, 'detail', ARGV[8]})
return 1
