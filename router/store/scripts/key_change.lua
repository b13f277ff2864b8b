-- A key changes, or is forgotten. ARGV: prefix, name, then one of
--   'block' | 'unblock' | 'revoke'
--   'rotate', digest of the new secret, its fingerprint, for how long (ms) the old secret works still
-- Returns 1, or 0 when there is no key of that name.
local id = redis.call('HGET', P .. 'keys:names', ARGV[2])
if not id then return 0 end
local key, what = P .. 'keys:key:' .. id, ARGV[3]
local secrets = cjson.decode(redis.call('HGET', key, 'secrets') or '[]')
if what == 'block' then
  redis.call('HSET', key, 'blocked', 1)
elseif what == 'unblock' then
  redis.call('HDEL', key, 'blocked')
elseif what == 'revoke' then
  for _, digest in ipairs(secrets) do redis.call('DEL', P .. 'keys:secret:' .. digest) end
  redis.call('DEL', key)
  redis.call('HDEL', P .. 'keys:names', ARGV[2])
elseif what == 'rotate' then
  local kept, grace = {ARGV[4]}, tonumber(ARGV[6])
  for _, digest in ipairs(secrets) do
    local old = P .. 'keys:secret:' .. digest
    local left = redis.call('PTTL', old) -- one that was rotated away before keeps the shorter of its times; -1: no end
    if grace <= 0 then
      redis.call('DEL', old)
    elseif left == -1 or left > grace then
      redis.call('PEXPIRE', old, grace)
    end
    if redis.call('EXISTS', old) == 1 then kept[#kept + 1] = digest end
  end
  redis.call('SET', P .. 'keys:secret:' .. ARGV[4], id)
  redis.call('HSET', key, 'fingerprint', ARGV[5], 'secrets', cjson.encode(kept))
end
redis.call('PUBLISH', P .. 'keys:changes', id)
return 1
