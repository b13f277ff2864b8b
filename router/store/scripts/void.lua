-- The leases and places of workers whose heartbeat has stopped, and of one that says goodbye.
-- ARGV: prefix, worker that leaves ('' for none). Returns how many leases and places were voided.
local gone, void = {}, 0
for _, worker in ipairs(redis.call('SMEMBERS', P .. 'workers')) do
  if worker == ARGV[2] or redis.call('EXISTS', P .. 'worker:' .. worker) == 0 then
    gone[worker] = true
    redis.call('SREM', P .. 'workers', worker)
    redis.call('DEL', P .. 'worker:' .. worker, P .. 'inbox:' .. worker)
  end
end
if next(gone) == nil then return 0 end
local now = now_ms()
for _, model in ipairs(redis.call('SMEMBERS', P .. 'models')) do
  local leases = redis.call('HGETALL', P .. 'leases:' .. model)
  for i = 1, #leases, 2 do
    local entry = cjson.decode(string.match(leases[i + 1], '^%d+|%d+|(.*)$'))
    if gone[entry.worker] then
      end_lease(now, model, leases[i], -1, 'lost')
      void = void + 1
    end
  end
end
local waiting = redis.call('HGETALL', P .. 'waiting')
for i = 1, #waiting, 2 do
  if gone[cjson.decode(waiting[i + 1]).worker] then
    give_up(now, waiting[i], 'lost')
    void = void + 1
  end
end
for worker in pairs(gone) do event(now, 'worker-gone', '', {'worker', worker, 'voided', void}) end
nudge()
return void
