#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- How far the queue of a task group was acknowledged: it only moves on. SPEC.md, section 8.5.
--
-- KEYS  1 place
-- ARGV  1 ms   2 seq: an entry of the group's stream   3 how many entries there were up to it   4 retention_ms, 0 = for ever
-- Reply 1 moved, 0 it was there or further already.
--
-- Allowed when memory is short: it replaces a few bytes.
local ms, seq, count, retention = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if not ms or not seq or not count or not retention then
	return redis.error_reply('ERR acked: arguments do not fit')
end
local was = redis.call('GET', KEYS[1])
if was then
	local m, s = string.match(was, '^(%d+)-(%d+)')
	m, s = tonumber(m or '0'), tonumber(s or '0')
	if m > ms or (m == ms and s >= seq) then
		return 0
	end
end
local place = ARGV[1] .. '-' .. ARGV[2] .. ' ' .. ARGV[3]
if retention > 0 then
	redis.call('SET', KEYS[1], place, 'PX', ARGV[4])
else
	redis.call('SET', KEYS[1], place)
end
return 1
