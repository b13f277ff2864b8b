-- Somebody ends a request, wherever it is. One that waits is out of the line at once; one that runs keeps its lease until
-- its worker has cut it off, so that nothing is stopped or started under it.
-- ARGV: prefix, id, caller whose it must be, anybody's (1), detail (JSON), model names...
-- Returns where it was: waiting, running, or '' when there is no such request of this caller.
local id, caller, anybodys, detail = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local now = now_ms()
local waiting = redis.call('HGET', P .. 'waiting', id)
if waiting then
  if not anybodys and cjson.decode(waiting).caller ~= caller then return '' end
  local request = give_up(now, id, 'cancelled')
  post(request.worker, now, id, 'refused', detail)
  event(now, 'cancelled', request.model, {'detail', 'it waited'})
  nudge()
  return 'waiting'
end
for i = 6, #ARGV do
  local value = redis.call('HGET', P .. 'leases:' .. ARGV[i], id)
  if value then
    local request = cjson.decode(string.match(value, '^%d+|%d+|(.*)$'))
    if not anybodys and request.caller ~= caller then return '' end
    post(request.worker, now, id, 'cut', detail)
    event(now, 'cancelled', request.model, {'detail', 'it ran'})
    return 'running'
  end
end
return ''
