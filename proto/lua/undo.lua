#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- A submission was refused in its middle: what was stored of it goes, and the claim on its Idempotency-Key, all in one step. SPEC.md, section 8.3.
--
-- KEYS  1 the claim, or ""   then of each endpoint: its set of cancelled tasks, its control stream
-- ARGV  1 the claim's first bytes, while nobody else has taken it over   then for each endpoint: packed ids; of some nothing may be stored but a payload
-- Reply 1 nothing is left, 0 the claim is another's, or was answered: nothing was done, he relies on the tasks.
--
-- Allowed when memory is short: that is when it is needed, and it frees more than it takes. A claim that is not there, or is of other tasks, is nobody's
-- who relies on these: the first try's answer got lost.
local claim, ours = '', ARGV[1]
if #KEYS ~= 2 * #ARGV - 1 then
	return redis.error_reply('ERR undo: arguments do not fit')
end
if KEYS[1] ~= '' then
	claim = redis.call('GETRANGE', KEYS[1], 0, #ours - 1)
	if claim ~= ours and string.sub(claim, 2) == string.sub(ours, 2) then
		return 0
	end
end
for e = 2, #ARGV do
	local packed, cancelled, control = ARGV[e], KEYS[2 * e - 2], KEYS[2 * e - 1]
	for at = 1, #packed, 16 do
		local task = string.sub(packed, at, at + 15)
		local key = string.format('weft:task:{%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x}', string.byte(task, 1, 16))
		if redis.call('UNLINK', key) == 1 then
			redis.call('SADD', cancelled, task)
			redis.call('XADD', control, 'MAXLEN', '~', '100000', '*', 'c', 'cancel', 't', task)
		end
		redis.call('UNLINK', key .. ':payload')
	end
end
if KEYS[1] ~= '' and claim == ours then
	redis.call('DEL', KEYS[1])
end
return 1
