-- Moves requests from the line to leases and tells their workers, if their model is still ready.
-- ARGV: prefix, holder, model, most requests in flight (0: any number), ids... Returns how many were granted.
local late = fenced(ARGV[2])
if late then return late end
local model, parallel = ARGV[3], tonumber(ARGV[4])
if redis.call('HGET', P .. 'model:' .. model, 'phase') ~= 'ready' then return 0 end
local now, granted = now_ms(), 0
local free = parallel > 0 and parallel - redis.call('HLEN', P .. 'leases:' .. model) or math.huge
for i = 5, #ARGV do
  if granted >= free then break end
  local id = ARGV[i]
  local entry, request, joined = leave(id)
  if entry then
    lease(model, id, now, joined, entry, request.caller, now)
    post(request.worker, now, id, 'go')
    granted = granted + 1
  end
end
return granted
