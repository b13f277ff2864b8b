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
