-- Shared by all scripts. ARGV[1] is the key prefix; key names are built here, so this needs one Redis, not a cluster.
-- Times are milliseconds on Redis's own clock, the only clock that the gateway and the router share.
local P = ARGV[1]

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function nudge()
  redis.call('PUBLISH', P .. 'nudge', '1')
end

-- fields: a flat list of names and values
local function event(now, kind, model, fields)
  redis.call('XADD', P .. 'events', 'MAXLEN', '~', '10000', '*',
    'event', kind, 'model', model, 'at', now, unpack(fields or {}))
end

local function post(worker, now, id, verdict, detail)
  local inbox = P .. 'inbox:' .. worker
  redis.call('XADD', inbox, 'MAXLEN', '~', '20000', '*', 'id', id, 'verdict', verdict, 'detail', detail or '')
  redis.call('PEXPIRE', inbox, 120000)
end

-- a router's write counts only while its fencing token is the current one
local function fenced(holder)
  if redis.call('GET', P .. 'gpu:lock') ~= holder then
    return redis.error_reply('FENCED ' .. holder)
  end
end

-- What the router learns from (pauses, lengths of requests), until it fetches it.
local function observe(model, caller, kind, ms)
  if redis.call('RPUSH', P .. 'observed', cjson.encode({model, caller, kind, ms})) > 20000 then
    redis.call('LTRIM', P .. 'observed', -10000, -1)
  end
end

-- Whether a caller has waited for another model since then, and been served: its pause here held that swap, and says
-- nothing of whether it would have come back to a model that stays.
local function moved_on(model, caller, since)
  local ended, other = string.match(redis.call('GET', P .. 'moved:' .. caller) or '', '^(%d+)|(.*)$')
  return ended and other ~= model and tonumber(ended) > since
end

-- A caller of a model: its open requests (they wait or run), those that run, and when the last one ended ('' while
-- any is open). Every request passes here when it opens (1), gets its lease (began 1) and is over (both -1).
local function count_caller(model, caller, opened, began, now)
  local key = P .. 'callers:' .. model
  local open, running, last = string.match(redis.call('HGET', key, caller) or '0|0|', '^(%d+)|(%d+)|(%d*)$')
  if opened > 0 and last ~= '' then
    local ended = tonumber(last)
    observe(model, caller, 'pause', moved_on(model, caller, ended) and -1 or now - ended)
    last = ''
  end
  open, running = math.max(open + opened, 0), math.max(running + began, 0)
  if began < 0 and open == 0 then last = string.format('%.0f', now) end
  if open == 0 and last == '' then
    redis.call('HDEL', key, caller)
  else
    redis.call('HSET', key, caller, string.format('%d|%d|%s', open, running, last))
  end
end

local function count_line(by, name, change)
  local key = P .. 'line:' .. by
  if redis.call('HINCRBY', key, name, change) <= 0 then redis.call('HDEL', key, name) end
end

-- The models in whose line a caller has a place.
local function lines_of(caller)
  local found = {}
  for _, model in ipairs(redis.call('HKEYS', P .. 'line:models')) do
    local known = redis.call('HGET', P .. 'callers:' .. model, caller) or '0|0|'
    local open, running = string.match(known, '^(%d+)|(%d+)|')
    if tonumber(open) > tonumber(running) then found[#found + 1] = model end
  end
  return found
end

-- The line: one sorted set for the places, one hash for the requests, and how many each model and caller has there.
local function join(joined, id, entry, model, caller, now)
  if redis.call('ZADD', P .. 'line', 'NX', joined, id) == 0 then return false end
  redis.call('HSET', P .. 'waiting', id, entry)
  count_line('models', model, 1)
  count_line('callers', caller, 1)
  count_caller(model, caller, 1, 0, now)
  return true
end

-- Out of the line. Returns the request's entry as text and as a table, and when it joined; nil when it is not there.
-- It is still open for its caller: a lease follows, or `give_up`.
local function leave(id)
  local entry = redis.call('HGET', P .. 'waiting', id)
  if not entry then return nil end
  local joined = redis.call('ZSCORE', P .. 'line', id)
  redis.call('ZREM', P .. 'line', id)
  redis.call('HDEL', P .. 'waiting', id)
  local request = cjson.decode(entry)
  count_line('models', request.model, -1)
  count_line('callers', request.caller, -1)
  return entry, request, tonumber(joined)
end

-- What was asked for, for those who plan with it later. granted: '' when it never ran.
-- outcome: completed, cut_short (it ran, but not to its end), lost (its gateway worker is gone), or why it never ran:
-- refused, failed (its model did), cancelled, timed_out (its wait limit passed), left (its client did)
local function record(now, model, caller, joined, granted, outcome)
  redis.call('XADD', P .. 'requests', 'MAXLEN', '~', '100000', '*', 'model', model, 'caller', caller,
    'joined', joined, 'granted', granted, 'ended', now, 'completed', outcome == 'completed' and 1 or 0, 'outcome', outcome)
end

-- Out of the line without a lease; outcome: see `record`. Returns the request's entry as a table; nil when it is not there.
local function give_up(now, id, outcome)
  local _, request, joined = leave(id)
  if request then
    count_caller(request.model, request.caller, -1, 0, now)
    record(now, request.model, request.caller, joined, '', outcome)
  end
  return request
end

-- Requests that are turned away at once, by model and reason.
local function count_refusal(model, reason)
  redis.call('HINCRBY', P .. 'refusals', reason .. ' ' .. model, 1)
end

-- A lease's value is since|joined|entry.
local function lease(model, id, since, joined, entry, caller, now)
  local value = string.format('%.0f|%.0f|', since, joined) .. entry
  if redis.call('HSETNX', P .. 'leases:' .. model, id, value) == 1 then count_caller(model, caller, 0, 1, now) end
end

-- ran: how long it ran to its end (ms); negative when it did not, with the outcome then. Returns whether there was such a
-- lease.
local function end_lease(now, model, id, ran, outcome)
  local value = redis.call('HGET', P .. 'leases:' .. model, id)
  if not value then return false end
  redis.call('HDEL', P .. 'leases:' .. model, id)
  redis.call('HSET', P .. 'model:' .. model, 'last_used', now)
  local since, joined, entry = string.match(value, '^(%d+)|(%d+)|(.*)$')
  local caller = cjson.decode(entry).caller
  count_caller(model, caller, -1, -1, now)
  if tonumber(since) > tonumber(joined) then -- kept for longer than any pause that counts (router.scheduling.gaps)
    redis.call('SET', P .. 'moved:' .. caller, string.format('%.0f|', now) .. model, 'PX', 300000)
  end
  if ran >= 0 then observe(model, caller, 'service', ran) end
  record(now, model, caller, joined, since, ran >= 0 and 'completed' or outcome)
  return true
end
