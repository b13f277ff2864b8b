-- A new key. ARGV: prefix, id, name, digest of its secret, fingerprint, limits (JSON), its life (ms) or 0
-- Returns 1, or 0 when there is a key of that name.
if redis.call('HSETNX', P .. 'keys:names', ARGV[3], ARGV[2]) == 0 then return 0 end
local now, life = now_ms(), tonumber(ARGV[7])
redis.call('HSET', P .. 'keys:key:' .. ARGV[2], 'id', ARGV[2], 'name', ARGV[3], 'fingerprint', ARGV[5],
  'limits', ARGV[6], 'expires', life > 0 and string.format('%.0f', now + life) or '', 'created', now,
  'secrets', cjson.encode({ARGV[4]}))
redis.call('SET', P .. 'keys:secret:' .. ARGV[4], ARGV[2])
redis.call('PUBLISH', P .. 'keys:changes', ARGV[2])
return 1
