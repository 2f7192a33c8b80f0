/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/usage.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "proto/layout.h"

static const char *const names[USAGE_N] = { "ended", "failed", "cancelled", "ran", "run_us" };

void usage_count (struct usage *u, const struct msg_result *m)
{
	int64_t began = m->stamps[STAMP_EXECUTION_START], ended = m->stamps[STAMP_EXECUTION_END];

	u->n[USAGE_ENDED]++;
	u->n[USAGE_FAILED] += m->status == STATUS_FAILED;
	u->n[USAGE_CANCELLED] += m->status == STATUS_CANCELLED;
	/* the stamps of a memoised result are those of the call that it comes from */
	if (m->flags & RESULT_MEMOISED || began <= 0 || ended < began || ended - began > USAGE_DAYS * USAGE_DAY_MS * 1000000)
		return;
	u->n[USAGE_RAN]++;
	u->n[USAGE_RUN_US] += (ended - began) / 1000;
}

void usage_key (char *key, const struct id *endpoint, int64_t day)
{
	char suffix[32];

	snprintf (suffix, sizeof (suffix), "usage:%" PRId64, day);
	layout_key (key, "ep", endpoint, suffix);
}

void usage_write (struct rds *r, const struct id *endpoint, int64_t now_ms, struct usage *u)
{
	int64_t day = now_ms / USAGE_DAY_MS;
	int hour = (int) (now_ms % USAGE_DAY_MS / USAGE_HOUR_MS);
	char key[LAYOUT_KEY_MAX];

	if (!u->n[USAGE_ENDED])
		return;
	usage_key (key, endpoint, day);
	for (int i = 0; i < USAGE_N; i++)
		if (u->n[i])
			rds_commandf (r, NULL, NULL, "HINCRBY %s %d.%s %lld", key, hour, names[i], (long long) u->n[i]);
	rds_commandf (r, NULL, NULL, "EXPIREAT %s %lld", key, (long long) ((day + 1 + USAGE_DAYS) * USAGE_DAY_MS / 1000));
	memset (u, 0, sizeof (*u));
}

void usage_forget (struct rds *r, const struct id *endpoint, int64_t now_ms)
{
	char keys[USAGE_DAYS + 1][LAYOUT_KEY_MAX];
	const char *argv[USAGE_DAYS + 2] = { "UNLINK" };
	size_t len[USAGE_DAYS + 2] = { 6 };

	for (int i = 0; i <= USAGE_DAYS; i++) {
		usage_key (keys[i], endpoint, now_ms / USAGE_DAY_MS - i);
		argv[i + 1] = keys[i];
		len[i + 1] = strlen (keys[i]);
	}
	rds_command (r, NULL, NULL, USAGE_DAYS + 2, argv, len);
}

bool usage_field (const char *p, size_t n, int *hour, enum usage_what *what)
{
	size_t at = 0;

	*hour = 0;
	while (at < n && at < 2 && p[at] >= '0' && p[at] <= '9')
		*hour = *hour * 10 + (p[at++] - '0');
	if (at == 0 || *hour > 23 || at == n || p[at] != '.')
		return false;
	at++;
	for (int i = 0; i < USAGE_N; i++)
		if (strlen (names[i]) == n - at && !memcmp (names[i], p + at, n - at)) {
			*what = (enum usage_what) i;
			return true;
		}
	return false;
}
