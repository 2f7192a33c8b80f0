#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- An endpoint is registered no more. Nothing is submitted to it from here on (submit.lua looks for `owner`), what stands in its stream is void.
-- SPEC.md, section 8.3.
--
-- KEYS  1 hash of the endpoint   2 stream of its tasks   3 stream of its control words   4 its cancelled tasks   5 its functions   6 weft:eps
--       7 weft:eps:deleted
-- ARGV  1 endpoint id as text
-- Reply OK. Again is no harm.
--
-- Allowed when memory is short: it ends tasks.
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', '1')[1]
redis.call('HDEL', KEYS[1], 'key', 'owner', 'name', 'locked')
redis.call('HSET', KEYS[1], 'cut', last and last[1] or '0-0')
redis.call('UNLINK', KEYS[5])
redis.call('SADD', KEYS[7], ARGV[1])
redis.call('SREM', KEYS[6], ARGV[1])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '100000', '*', 'c', 'deleted')
return redis.status_reply('OK')
