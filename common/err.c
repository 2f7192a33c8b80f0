/* SPDX-License-Identifier: Apache-2.0 */
/* Every property of an error code stands in one table, so that handlers never invent numbers. */
#include "common/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	enum err_code code;
	int http_status;
	const char *name;
} table[] = {
	{ ERR_NONE, 200, "NONE" },
	{ ERR_INTERNAL, 500, "INTERNAL" },
	{ ERR_INVALID, 400, "INVALID" },
	{ ERR_LIMIT, 429, "LIMIT" },
	{ ERR_BAD_STATE, 409, "STATE" },
	{ ERR_NOT_FOUND, 404, "NOT_FOUND" },
	{ ERR_FORBIDDEN, 403, "FORBIDDEN" },
	{ ERR_UNAUTHENTICATED, 401, "UNAUTHENTICATED" },
	{ ERR_CONFLICT, 409, "CONFLICT" },
	{ ERR_TOO_LARGE, 413, "TOO_LARGE" },
	{ ERR_UNAVAILABLE, 503, "UNAVAILABLE" },
	{ ERR_TIMEOUT, 504, "TIMEOUT" },
	{ ERR_CANCELLED, 409, "CANCELLED" },
	{ ERR_VERSION, 400, "VERSION" },
	{ ERR_IO, 500, "IO" },
	/* A task that ended badly is no failure of the service: never 5xx, which clients send again. */
	{ ERR_TASK_EXCEPTION, 422, "TASK_EXCEPTION" },
	{ ERR_TASK_EXIT, 422, "TASK_EXIT" },
	{ ERR_TASK_SIGNAL, 422, "TASK_SIGNAL" },
	{ ERR_TASK_TIME_LIMIT, 422, "TASK_TIME_LIMIT" },
	{ ERR_TASK_MEMORY_LIMIT, 422, "TASK_MEMORY_LIMIT" },
	{ ERR_TASK_DECODE, 422, "TASK_DECODE" },
	{ ERR_TASK_ENCODE, 422, "TASK_ENCODE" },
	{ ERR_TASK_RESULT_TOO_LARGE, 413, "TASK_RESULT_TOO_LARGE" },
	{ ERR_TASK_LOST, 422, "TASK_LOST" },
	{ ERR_TASK_EXPIRED, 410, "TASK_EXPIRED" },
	{ ERR_TASK_MODULE, 422, "TASK_MODULE" },
	{ ERR_TASK_RUNNER, 422, "TASK_RUNNER" },
	{ ERR_TASK_FILE, 422, "TASK_FILE" },
};

int err_set (struct err *err, enum err_code code, enum err_fault fault, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (err) {
		char text[sizeof (err->text)]; /* an argument may point into err->text */
		va_start (ap, fmt);
		vsnprintf (text, sizeof (text), fmt, ap);
		va_end (ap);
		err->code = code;
		err->fault = fault;
		memcpy (err->text, text, sizeof (text));
	}
	errno = saved;
	return -1;
}

int err_errno (struct err *err, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (err) {
		char what[sizeof (err->text)], why[128];
		va_start (ap, fmt);
		vsnprintf (what, sizeof (what), fmt, ap);
		va_end (ap);
		/* the reason must survive a long "what" */
		const char *w = strerror_r (saved, why, sizeof (why));
		size_t room = sizeof (err->text) - 1, nw = strnlen (w, 128), n = strlen (what);
		if (n + 2 + nw > room)
			n = room - 2 - nw;
		memcpy (err->text, what, n);
		memcpy (err->text + n, ": ", 2);
		memcpy (err->text + n + 2, w, nw);
		err->text[n + 2 + nw] = '\0';
		err->code = ERR_IO;
		err->fault = FAULT_SITE;
	}
	errno = saved;
	return -1;
}

int err_prefix (struct err *err, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (err) {
		char what[sizeof (err->text)], old[sizeof (err->text)];
		va_start (ap, fmt);
		vsnprintf (what, sizeof (what), fmt, ap);
		va_end (ap);
		memcpy (old, err->text, sizeof (old));
		old[sizeof (old) - 1] = '\0';
		size_t n = strlen (what), room = sizeof (err->text) - 1, no = strlen (old);
		if (n + 2 > room)
			n = room - 2;
		if (n + 2 + no > room)
			no = room - n - 2;
		memcpy (err->text, what, n);
		memcpy (err->text + n, ": ", 2);
		memcpy (err->text + n + 2, old, no);
		err->text[n + 2 + no] = '\0';
	}
	errno = saved;
	return -1;
}

int err_http_status (enum err_code code)
{
	for (size_t i = 0; i < sizeof (table) / sizeof (table[0]); i++)
		if (table[i].code == code)
			return table[i].http_status;
	return 500;
}

const char *err_name (enum err_code code)
{
	for (size_t i = 0; i < sizeof (table) / sizeof (table[0]); i++)
		if (table[i].code == code)
			return table[i].name;
	return "INTERNAL";
}

const char *err_fault_name (enum err_fault fault)
{
	static const char *const names[] = { "none", "user", "site", "peer", "self" };

	return (unsigned) fault < sizeof (names) / sizeof (names[0]) ? names[fault] : "none";
}
