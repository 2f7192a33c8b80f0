#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- Read a task, and register a waiter when it has not ended: in one step, so that no wake-up is lost. SPEC.md, section 8.
--
-- KEYS  1 task hash
-- ARGV  1 instance of the waiter, 16 characters
-- Reply {m, s, r}, r nil until the end; nil for an unknown task.
--
-- Allowed when memory is short: it adds 16 bytes, and answers are what empties Redis.
local key, instance = KEYS[1], ARGV[1]
if #instance ~= 16 then
	return redis.error_reply('ERR wait: instance is not 16 characters')
end
local h = redis.call('HMGET', key, 'm', 's', 'r', 'w')
if not h[1] then
	return false
end
if tonumber(h[2] or '0') < 5 then
	local waiters = h[4] or ''
	local known = false
	for at = 1, #waiters, 16 do
		known = known or string.sub(waiters, at, at + 15) == instance
	end
	if not known then
		redis.call('HSET', key, 'w', waiters .. instance)
	end
end
return { h[1], h[2], h[3] }
