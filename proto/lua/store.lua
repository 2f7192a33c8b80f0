#!lua
-- SPDX-License-Identifier: Apache-2.0
-- Store a result: the first one wins. Sets the expiry, drops the payload, wakes the waiters, tells the task's group when that is watched.
-- SPEC.md, sections 8, 8.3 and 8.4.
--
-- KEYS  1 task hash   2 its payload
--       3, 4 optional, of a cancellation on request: the endpoint's set of cancelled tasks, its control stream; the forwarder is told there
-- ARGV  1 state digit (5 to 7)   2 RESULT record   3 retention_ms, 0 = for ever   4 records over this size are not published
--       5 optional: the size of the record, which was put into field r before (HSETNX); 2 is only its first 24 bytes then
-- Reply 1 stored, 0 another had come first, -1 unknown task.
--
-- Large records come by argument 5: Lua hashes each byte of each string that it is given, 1.2 ms a MB. In between a reader may see r
-- without the end state: r counts. So where another try put its record there and got no further, that record ends the task, not this one. One of
-- the same size is taken for ours: the same result, sent once more.
--
-- When Redis is over maxmemory it refuses the script before it runs: nothing has changed, the caller tries again.
local key, digit, record = KEYS[1], ARGV[1], ARGV[2]
local state, retention, inline_max = tonumber(digit), tonumber(ARGV[3]), tonumber(ARGV[4])
local placed = tonumber(ARGV[5] or '')
if not state or state < 5 or state > 7 or not retention or not inline_max or #record < 24 then
	return redis.error_reply('ERR store: arguments do not fit')
end
local h = placed and redis.call('HMGET', key, 'm', 's', 'w') or redis.call('HMGET', key, 'm', 's', 'w', 'r')
if not h[1] then
	if placed then
		redis.call('DEL', key)
	end
	return -1
end
if tonumber(h[2] or '0') >= 5 then
	return 0
end
local first = h[4]
if placed then
	local size = redis.call('HSTRLEN', key, 'r')
	if size == 0 then
		return redis.error_reply('ERR store: the record did not get into its place, try again')
	end
	first = size ~= placed and redis.call('HGET', key, 'r')
end
if first then
	-- byte 2 of a record is its status, 1 to 3
	record, state, placed = first, 4 + string.byte(first, 3), nil
	digit = tostring(state)
end
-- A call of Redis from here costs as much as all the rest: the waiters are emptied with the same one.
local waiters = h[3] ~= '' and h[3]
if placed or first then
	redis.call('HSET', key, 's', digit, 'w', '')
elseif waiters then
	redis.call('HSET', key, 's', digit, 'r', record, 'w', '')
else
	redis.call('HSET', key, 's', digit, 'r', record)
end
if retention > 0 then
	redis.call('PEXPIRE', key, ARGV[3])
end
-- byte 2 of the meta: flags, 1 = the payload is stored apart, 4 = in the bulk store, 8 = the group is watched; bytes 51 to 66: the group. Nobody who is not watched
-- pays for more than this look.
local flags = string.byte(h[1], 2) or 1
if bit.band(flags, 5) == 1 then
	redis.call('DEL', KEYS[2])
end
if bit.band(flags, 8) ~= 0 and #h[1] >= 66 and #h[1] < 256 then
	local channel = string.format('weft:group:{%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x}:done', string.byte(h[1], 51, 66))
	local task = string.sub(record, 9, 24)
	local position = redis.call('XADD', channel, 'MAXLEN', '~', '1000000', '*', 't', task, 's', digit)
	if retention > 0 then
		redis.call('PEXPIRE', channel, ARGV[3])
	end
	local message = task .. string.char(state, #position, #h[1]) .. position .. h[1]
	if not placed and #record <= inline_max then
		message = message .. record
	end
	redis.call('PUBLISH', channel, message)
end
if KEYS[3] and not first then
	local task = string.sub(record, 9, 24)
	redis.call('SADD', KEYS[3], task)
	redis.call('XADD', KEYS[4], 'MAXLEN', '~', '100000', '*', 'c', 'cancel', 't', task)
end
if waiters then
	-- bytes 8 to 23 of the record are the task id
	local message = string.sub(record, 9, 24) .. string.char(state)
	if not placed and #record <= inline_max then
		message = message .. record
	end
	for at = 1, #waiters, 16 do
		redis.call('PUBLISH', 'weft:done:' .. string.sub(waiters, at, at + 15), message)
	end
end
return first and 0 or 1
