#!lua flags=no-writes,allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- Read a task, its record only up to a size: who shows many does not want to carry large results. SPEC.md, section 8.3.
--
-- KEYS  1 task hash
-- ARGV  1 most bytes of the record
-- Reply {m, s, r, size of r}, r nil when it is larger or not there; nil for an unknown task.
local max = tonumber(ARGV[1])
if not max then
	return redis.error_reply('ERR peek: arguments do not fit')
end
local h = redis.call('HMGET', KEYS[1], 'm', 's')
if not h[1] then
	return false
end
local size = redis.call('HSTRLEN', KEYS[1], 'r')
return { h[1], h[2], size > 0 and size <= max and redis.call('HGET', KEYS[1], 'r') or false, size }
