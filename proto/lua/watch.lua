#!lua
-- SPDX-License-Identifier: Apache-2.0
-- Tasks of a group that was not watched when they were submitted: their ends go into the group's stream from now on, and what has ended
-- already is put there. SPEC.md, section 8.4.
--
-- KEYS  1 stream of the group   2.. task hashes
-- ARGV  1 retention_ms, 0 = for ever   then the id of each task
-- Reply how many were flagged. Tasks that are flagged already, or unknown, are left: each has one entry in the end, however often and by
-- however many this is called.
local retention, n = tonumber(ARGV[1]), #KEYS - 1
if not retention or #ARGV ~= 1 + n then
	return redis.error_reply('ERR watch: arguments do not fit')
end
local flagged, added = 0, false
for i = 1, n do
	local key = KEYS[1 + i]
	local h = redis.call('HMGET', key, 'm', 's')
	local meta, state = h[1], tonumber(h[2] or '0')
	if meta and #meta >= 66 and bit.band(string.byte(meta, 2), 8) == 0 then
		redis.call('HSET', key, 'm', string.sub(meta, 1, 1) .. string.char(bit.bor(string.byte(meta, 2), 8)) .. string.sub(meta, 3))
		flagged = flagged + 1
		if state >= 5 then
			redis.call('XADD', KEYS[1], 'MAXLEN', '~', '1000000', '*', 't', ARGV[1 + i], 's', h[2])
			added = true
		end
	end
end
if added and retention > 0 then
	redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return flagged
