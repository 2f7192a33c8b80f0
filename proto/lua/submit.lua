#!lua
-- SPDX-License-Identifier: Apache-2.0
-- Store the tasks of one chunk of a submission and queue them for their endpoint: all or nothing. SPEC.md, section 8.3.
--
-- KEYS  1 stream of the endpoint's tasks   2 stream of the owner's tasks   3 list of the group, or ""
--       4 watch key of the group, or "" when it cannot be watched   5 hash of the endpoint   6.. task hashes
-- ARGV  1 max_queued, 0 = no limit   2 retention_ms, 0 = for ever   3 now_ms   4 packed ids   5 endpoint id as text
--       6 header of the group's list, or ""   7 instance of the waiter, or ""   8 the group shall be watched: value for that key, or ""
--       then meta and queue record of each task
-- Reply OK, or the error "LIMIT queue holds N of M", or "GONE" when the endpoint is not registered: its hash has no owner.
--
-- No flags in the first line: when Redis is over maxmemory it refuses the script before it runs, never in its middle.
-- A task whose hash exists was stored by an earlier try of the same submission, whose answer got lost: it is not queued again.
local first = 5
local ntasks = #KEYS - first
local max_queued, retention, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local packed, waiter = ARGV[4], ARGV[7]
if not max_queued or not retention or not now or #packed ~= 16 * ntasks or #ARGV ~= 8 + 2 * ntasks then
	return redis.error_reply('ERR submit: arguments do not fit')
end

local fresh, again = {}, {}
for i = 1, ntasks do
	if redis.call('EXISTS', KEYS[first + i]) == 0 then
		fresh[#fresh + 1] = i
	else
		again[#again + 1] = i
	end
end
-- Here, in one step with the XADD: who drains the stream of a deleted endpoint knows that nothing comes after.
if #fresh > 0 and redis.call('HEXISTS', KEYS[5], 'owner') == 0 then
	return redis.error_reply('GONE the endpoint is not registered')
end
if #fresh > 0 and max_queued > 0 then
	local queued = redis.call('XLEN', KEYS[1])
	if queued + #fresh > max_queued then
		return redis.error_reply(string.format('LIMIT queue holds %d of %d', queued, max_queued))
	end
end

local function id_of(i)
	return string.sub(packed, 16 * i - 15, 16 * i)
end

-- The repeated ones first get their waiter: a task that has ended meanwhile wakes it at once.
if waiter ~= '' then
	for _, i in ipairs(again) do
		local key = KEYS[first + i]
		local h = redis.call('HMGET', key, 's', 'w')
		local state, waiters = tonumber(h[1] or '0'), h[2] or ''
		if state >= 5 then
			redis.call('PUBLISH', 'weft:done:' .. waiter, id_of(i) .. string.char(state))
		else
			local known = false
			for at = 1, #waiters, 16 do
				known = known or string.sub(waiters, at, at + 15) == waiter
			end
			if not known then
				redis.call('HSET', key, 'w', waiters .. waiter)
			end
		end
	end
end
if #fresh == 0 then
	return redis.status_reply('OK')
end

if #again > 0 then
	local ids = {}
	for n, i in ipairs(fresh) do
		ids[n] = id_of(i)
	end
	packed = table.concat(ids)
end
if KEYS[3] ~= '' then
	if redis.call('EXISTS', KEYS[3]) == 0 then
		redis.call('RPUSH', KEYS[3], ARGV[6], packed)
	else
		redis.call('RPUSH', KEYS[3], packed)
	end
end
redis.call('XADD', KEYS[2], '*', 't', packed, 'e', ARGV[5])
if retention > 0 then
	-- Not each time, it costs a third of all this: old entries go, and the stream's end moves on, when what there is to spare is used up.
	local spare = math.min(math.ceil(retention / 8), 60000)
	local left = redis.call('PTTL', KEYS[2])
	if left <= retention or left > retention + spare then
		redis.call('XTRIM', KEYS[2], 'MINID', '~', string.format('%.0f', math.max(now - retention, 0)))
		redis.call('PEXPIRE', KEYS[2], string.format('%.0f', retention + spare))
	end
	if KEYS[3] ~= '' then
		redis.call('PEXPIRE', KEYS[3], ARGV[2])
	end
end
-- A group that somebody watches: its tasks carry a flag, so that their ends are told; see store.lua.
local watched = false
if KEYS[4] ~= '' then
	if ARGV[8] ~= '' then
		redis.call('SET', KEYS[4], ARGV[8], 'NX')
	end
	watched = redis.call('EXISTS', KEYS[4]) == 1
	if watched and retention > 0 then
		redis.call('PEXPIRE', KEYS[4], ARGV[2])
		redis.call('XTRIM', string.sub(KEYS[4], 1, -6) .. 'done', 'MINID', '~', string.format('%.0f', math.max(now - retention, 0)))
	end
end
for _, i in ipairs(fresh) do
	local meta, queued = ARGV[7 + 2 * i], ARGV[8 + 2 * i]
	if watched then
		meta = string.sub(meta, 1, 1) .. string.char(bit.bor(string.byte(meta, 2), 8)) .. string.sub(meta, 3)
	end
	if waiter ~= '' then
		redis.call('HSET', KEYS[first + i], 'm', meta, 's', '1', 'w', waiter)
	else
		redis.call('HSET', KEYS[first + i], 'm', meta, 's', '1')
	end
	redis.call('XADD', KEYS[1], '*', 't', queued)
end
return redis.status_reply('OK')
