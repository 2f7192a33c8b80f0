#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- Raise the state of a task that has not ended. SPEC.md, section 5: a state only grows.
--
-- KEYS  1 task hash
-- ARGV  1 state digit, 0 to 4: end states come with a result, see store.lua
-- Reply 1 raised, 0 not (unknown, ended, or as far already).
--
-- Allowed when memory is short: it replaces one byte.
local state = tonumber(ARGV[1])
if not state or state < 0 or state > 4 then
	return redis.error_reply('ERR progress: not a state on the way')
end
local now = redis.call('HGET', KEYS[1], 's')
if not now or tonumber(now) >= state then
	return 0
end
redis.call('HSET', KEYS[1], 's', ARGV[1])
return 1
