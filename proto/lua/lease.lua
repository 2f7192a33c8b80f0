#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- A lease with one owner at a time. SPEC.md, section 8.3.
--
-- KEYS  1 lease
-- ARGV  1 acquire (also renews one's own), renew (one's own only) or release   2 owner   3 ttl_ms
-- Reply 1 done, 0 not: another has it (renew, release: one has it no more).
--
-- Allowed when memory is short: a full Redis must not cost the endpoints their forwarders, which empty it.
local op, owner, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
if owner == '' or not ttl or (op ~= 'release' and ttl <= 0) then
	return redis.error_reply('ERR lease: arguments do not fit')
end
local holder = redis.call('GET', KEYS[1])
if op == 'acquire' then
	if holder and holder ~= owner then
		return 0
	end
	redis.call('SET', KEYS[1], owner, 'PX', ARGV[3])
	return 1
end
if op ~= 'renew' and op ~= 'release' then
	return redis.error_reply('ERR lease: acquire, renew or release')
end
if holder ~= owner then
	return 0
end
if op == 'renew' then
	redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
	redis.call('DEL', KEYS[1])
end
return 1
