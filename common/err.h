/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that a person will read: a code, whose fault it is, and one sentence.
 *
 * Functions return 0/-1 (or a pointer/NULL); a struct err is filled on failure only.
 * Text says what failed, on what, why; lower case, no trailing dot.
 */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

/* One table (err.c) maps a code to its HTTP status, wire number and `code` string of the REST error body.
 * The numbers travel (proto/SPEC.md, section 3.4) and are never reused. */
enum err_code {
	ERR_NONE = 0,
	ERR_INTERNAL = 1,	/* a bug or an unexpected system failure */
	ERR_INVALID = 2,	/* malformed input */
	ERR_LIMIT = 3,		/* a named limit was reached; try later or send less */
	ERR_BAD_STATE = 4,	/* not possible in the present state (OpenSSL has the name ERR_STATE) */
	ERR_NOT_FOUND = 5,
	ERR_FORBIDDEN = 6,
	ERR_UNAUTHENTICATED = 7,
	ERR_CONFLICT = 8,
	ERR_TOO_LARGE = 9,	/* a size limit; sending it again will not help */
	ERR_UNAVAILABLE = 10,	/* a peer (Redis, forwarder, endpoint) cannot be reached now */
	ERR_TIMEOUT = 11,
	ERR_CANCELLED = 12,
	ERR_VERSION = 13,	/* no common protocol version */
	ERR_IO = 14,		/* files, disks, sockets of this host */
	/* how a task ended badly; `fault` tells whose it was */
	ERR_TASK_EXCEPTION = 20, /* the function raised; text is the traceback */
	ERR_TASK_EXIT = 21,	/* the function's process exited, status in `detail` */
	ERR_TASK_SIGNAL = 22,	/* killed by a signal, number in `detail` */
	ERR_TASK_TIME_LIMIT = 23,
	ERR_TASK_MEMORY_LIMIT = 24,
	ERR_TASK_DECODE = 25,	/* function or payload cannot be decoded */
	ERR_TASK_ENCODE = 26,	/* the return value cannot be serialised */
	ERR_TASK_RESULT_TOO_LARGE = 27,
	ERR_TASK_LOST = 28,	/* worker, manager or node lost more often than the retry limit allows */
	ERR_TASK_EXPIRED = 29,	/* waited longer than the service keeps tasks */
	ERR_TASK_MODULE = 30,	/* a module that the payload needs is missing; text names it */
	ERR_TASK_RUNNER = 31,	/* the endpoint cannot run this kind of function */
	ERR_TASK_FILE = 32,	/* a file that the task needs or makes: cannot be had, is another one, is too large */
};

enum err_fault { FAULT_NONE = 0, FAULT_USER = 1, FAULT_SITE = 2, FAULT_PEER = 3, FAULT_SELF = 4 };

struct err {
	enum err_code code;
	enum err_fault fault;
	char text[400];
};

/* Fill *err (NULL is fine) and return -1, so failing is one line. errno is preserved. */
int err_set (struct err *err, enum err_code code, enum err_fault fault, const char *fmt, ...)
	__attribute__ ((format (printf, 4, 5)));

/* The same from errno: ": <strerror>" is appended; the code is ERR_IO, the fault FAULT_SITE. Returns -1. */
int err_errno (struct err *err, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));

/* Put "what: " before the text of an error passed up. Returns -1. */
int err_prefix (struct err *err, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));

int err_http_status (enum err_code code);	 /* 500 for unknown codes */
const char *err_name (enum err_code code);	 /* "TASK_TIME_LIMIT"; "INTERNAL" for unknown codes */
const char *err_fault_name (enum err_fault fault); /* "user", "site", "peer", "self", "none" */

#endif
