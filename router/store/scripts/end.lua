-- Ends requests, wherever they are: leases and places in the line. Doing it twice does no harm.
-- ARGV: prefix, then for each request: id, model, its running time (ms; -1 when it did not run to its end, -2
--   when its wait limit passed)
-- Returns how many leases ended.
local now, ended, stir = now_ms(), 0, false
for i = 2, #ARGV, 3 do
  local id, model, ran = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  if end_lease(now, model, id, ran, 'cut_short') then
    ended = ended + 1
    if redis.call('HGET', P .. 'model:' .. model, 'phase') == 'draining' and redis.call('HLEN', P .. 'leases:' .. model) == 0 then
      stir = true
    end
  end
  if give_up(now, id, ran == -2 and 'timed_out' or 'left') then stir = true end
end
-- whoever waits may be waiting for just this: a free place, or the end of what is served before a swap
if stir or (ended > 0 and redis.call('ZCARD', P .. 'line') > 0) then nudge() end
return ended
