#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- What a deleted endpoint leaves goes when its tasks have ended. SPEC.md, section 8.3.
--
-- KEYS  1 hash of the endpoint   2 stream of its tasks   3 stream of its control words   4 its cancelled tasks   5 its functions   6 weft:eps
--       7 weft:eps:deleted
-- ARGV  1 endpoint id as text
-- Reply 1 it is gone, 0 nothing was done: there are tasks, or it is registered again.
if redis.call('HEXISTS', KEYS[1], 'owner') == 1 or redis.call('XLEN', KEYS[2]) > 0 then
	return 0
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('SREM', KEYS[7], ARGV[1])
return 1
