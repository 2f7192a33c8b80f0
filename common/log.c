/* SPDX-License-Identifier: Apache-2.0 */
/* One line is built on the stack, then given to the kernel in one write. The log never stops the program: a full pipe
 * loses lines, which are counted (dropped=N on the next one), and a format it does not know ends the line with
 * log_format_error=. Threads may call this. */
#include "common/log.h"
#include "common/clock.h"
#include "common/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 4096, /* PIPE_BUF: lines of several processes do not mix */
	VALUE_MAX_BYTES = 2048,
	RATE_SLOTS = 256,
	RATE_PROBES = 8,
};

struct line {
	char s[LINE_MAX_BYTES];
	size_t n;
	bool full;
};

struct rate {
	uint64_t hash; /* of mod and msg; 0 = free */
	int64_t since_ms;
	unsigned count, suppressed;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rate rates[RATE_SLOTS];
static int log_fd = STDERR_FILENO;
static char *log_path;	/* owned; NULL = stderr */
static char log_prog[64];
static enum log_level log_min = LOG_INFO;
static unsigned dropped;
static const char *const level_names[] = { "debug", "info", "warn", "error" };

static int open_path (const char *path, struct err *err)
{
	int fd = open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);

	if (fd < 0)
		err_errno (err, "opening the log %s", path);
	return fd;
}

/* Takes fd and path (owned). */
static void swap_in (int fd, char *path)
{
	pthread_mutex_lock (&lock);
	if (log_fd > STDERR_FILENO)
		close (log_fd);
	log_fd = fd;
	if (path != log_path)
		free (log_path);
	log_path = path;
	pthread_mutex_unlock (&lock);
}

int log_open (const char *prog, const char *path, enum log_level level, struct err *err)
{
	int fd = STDERR_FILENO;
	char *copy = NULL;

	if (path) {
		if (!(copy = strdup (path)))
			return err_errno (err, "opening the log %s", path);
		if ((fd = open_path (path, err)) < 0) {
			free (copy);
			return -1;
		}
	}
	swap_in (fd, copy);
	snprintf (log_prog, sizeof (log_prog), "%s", prog ? prog : "");
	log_min = level;
	return 0;
}

int log_reopen (struct err *err)
{
	int fd;

	if (!log_path)
		return 0;
	if ((fd = open_path (log_path, err)) < 0)
		return -1;
	swap_in (fd, log_path);
	return 0;
}

int log_level_parse (const char *s, enum log_level *out)
{
	for (int i = 0; s && i < 4; i++)
		if (strcasecmp (s, level_names[i]) == 0) {
			*out = (enum log_level) i;
			return 0;
		}
	return -1;
}

int log_enabled (enum log_level level)
{
	return level >= log_min;
}

static void line_add (struct line *l, const char *p, size_t n)
{
	if (n > sizeof (l->s) - 1 - l->n) { /* one byte stays for the newline */
		l->full = true;
		return;
	}
	memcpy (l->s + l->n, p, n);
	l->n += n;
}

static void line_str (struct line *l, const char *s)
{
	line_add (l, s, strlen (s));
}

static bool is_plain (const char *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((uint8_t) v[i] <= 0x20 || (uint8_t) v[i] >= 0x7f || v[i] == '"' || v[i] == '=' || v[i] == '\\')
			return false;
	return n > 0;
}

static void line_value (struct line *l, const char *v, size_t n)
{
	size_t start = l->n;

	if (is_plain (v, n)) {
		line_add (l, v, n);
		return;
	}
	line_add (l, "\"", 1);
	for (size_t i = 0; i < n;) {
		size_t seq = utf8_seq ((const uint8_t *) v + i, n - i);
		char esc[8];
		if (seq > 1 || (seq == 1 && (uint8_t) v[i] >= 0x20 && v[i] != '"' && v[i] != '\\' && v[i] != 0x7f)) {
			line_add (l, v + i, seq);
			i += seq;
			continue;
		}
		if (v[i] == '"' || v[i] == '\\')
			snprintf (esc, sizeof (esc), "\\%c", v[i]);
		else if (v[i] == '\n')
			snprintf (esc, sizeof (esc), "\\n");
		else if (v[i] == '\t')
			snprintf (esc, sizeof (esc), "\\t");
		else
			snprintf (esc, sizeof (esc), "\\x%02x", (uint8_t) v[i]);
		line_str (l, esc);
		i++;
	}
	line_add (l, "\"", 1);
	if (l->full && l->n > start) /* never a value without its end quote */
		l->n = start;
}

static void line_key (struct line *l, const char *key, size_t nkey, const char *v, size_t nv)
{
	size_t start = l->n;

	if (l->full)
		return;
	line_add (l, " ", 1);
	line_add (l, key, nkey);
	line_add (l, "=", 1);
	line_value (l, v, nv);
	if (l->full)
		l->n = start;
}

static void line_kv (struct line *l, const char *key, const char *v)
{
	line_key (l, key, strlen (key), v, strlen (v));
}

struct value {
	char s[VALUE_MAX_BYTES];
	size_t n;
};

static void value_add (struct value *v, const char *p, size_t n)
{
	if (n > sizeof (v->s) - v->n)
		n = sizeof (v->s) - v->n;
	memcpy (v->s + v->n, p, n);
	v->n += n;
}

struct args { va_list ap; }; /* a va_list cannot portably be passed by pointer otherwise */

/* One conversion, at *f behind its '%'. 0, or -1: not supported. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static int convert (struct value *v, const char **f, struct args *a)
{
	char spec[32] = "%", out[512];
	size_t n = 1;
	int longs = 0, stars[2], nstars = 0, len = 0;
	char size = 0, c;
	const char *p = *f, *text;

#define EMIT(type, val) \
	(nstars == 2	 ? snprintf (out, sizeof (out), spec, stars[0], stars[1], (type) (val)) \
	 : nstars == 1 ? snprintf (out, sizeof (out), spec, stars[0], (type) (val)) \
		       : snprintf (out, sizeof (out), spec, (type) (val)))
	for (; *p && strchr ("-+ #0123456789.*", *p); p++) {
		if (n > 12)
			return -1;
		if (*p == '*') {
			if (nstars == 2)
				return -1;
			stars[nstars++] = va_arg (a->ap, int);
		}
		spec[n++] = *p;
	}
	for (; *p && strchr ("hlzjtqL", *p); p++) {
		if (n > 16)
			return -1;
		longs += *p == 'l' || *p == 'q' ? 1 + (*p == 'q') : 0;
		size = *p;
		spec[n++] = *p;
	}
	c = *p;
	if (!c || longs > 2)
		return -1;
	spec[n++] = c;
	spec[n] = '\0';
	*f = p + 1;
	switch (c) {
	case 'd': case 'i':
		len = longs > 1		? EMIT (long long, va_arg (a->ap, long long))
		      : longs == 1	? EMIT (long, va_arg (a->ap, long))
		      : size == 'z'	? EMIT (ssize_t, va_arg (a->ap, ssize_t))
		      : size == 'j'	? EMIT (intmax_t, va_arg (a->ap, intmax_t))
		      : size == 't'	? EMIT (ptrdiff_t, va_arg (a->ap, ptrdiff_t))
					: EMIT (int, va_arg (a->ap, int));
		break;
	case 'u': case 'x': case 'X': case 'o':
		len = longs > 1		? EMIT (unsigned long long, va_arg (a->ap, unsigned long long))
		      : longs == 1	? EMIT (unsigned long, va_arg (a->ap, unsigned long))
		      : size == 'z'	? EMIT (size_t, va_arg (a->ap, size_t))
		      : size == 'j'	? EMIT (uintmax_t, va_arg (a->ap, uintmax_t))
		      : size == 't'	? EMIT (ptrdiff_t, va_arg (a->ap, ptrdiff_t))
					: EMIT (unsigned, va_arg (a->ap, unsigned));
		break;
	case 'f': case 'F': case 'e': case 'E': case 'g': case 'G': case 'a': case 'A':
		len = size == 'L' ? EMIT (long double, va_arg (a->ap, long double)) : EMIT (double, va_arg (a->ap, double));
		break;
	case 'c':
		if (longs)
			return -1;
		len = EMIT (int, va_arg (a->ap, int));
		break;
	case 'p':
		len = EMIT (void *, va_arg (a->ap, void *));
		break;
	case 's': {
		const char *dot = strchr (spec, '.');
		size_t most = VALUE_MAX_BYTES;
		if (longs)
			return -1;
		text = va_arg (a->ap, const char *);
		if (dot) {
			int prec = strchr (dot, '*') ? stars[nstars - 1] : atoi (dot + 1);
			if (prec >= 0 && (size_t) prec < most)
				most = (size_t) prec;
		}
		if (text)
			value_add (v, text, strnlen (text, most));
		return 0;
	}
	case 'm':
		text = strerror_r (errno, out, sizeof (out));
		value_add (v, text, strlen (text));
		return 0;
	default:
		return -1;
	}
#undef EMIT
	if (len > 0)
		value_add (v, out, (size_t) len < sizeof (out) ? (size_t) len : sizeof (out) - 1);
	return 0;
}
#pragma GCC diagnostic pop

static void line_format (struct line *l, const char *fmt, struct args *a)
{
	const char *f = fmt;

	while (*f) {
		const char *key = f;
		struct value v = { .n = 0 };
		size_t nkey;

		while (*f == ' ')
			key = ++f;
		nkey = strcspn (f, "= %");
		f += nkey;
		if (nkey == 0 && !*f)
			return;
		if (*f == '=')
			f++;
		while (*f && *f != ' ') {
			if (*f != '%') {
				value_add (&v, f++, 1);
			} else if (f[1] == '%') {
				value_add (&v, f, 1);
				f += 2;
			} else {
				f++;
				if (convert (&v, &f, a) < 0) { /* what the other arguments are is unknown now */
					line_kv (l, "log_format_error", fmt);
					return;
				}
			}
		}
		if (nkey)
			line_key (l, key, nkey, v.s, v.n);
		else
			line_key (l, "value", 5, v.s, v.n);
	}
}

static uint64_t hash_of (const char *mod, const char *msg)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *mod; mod++)
		h = (h ^ (uint8_t) *mod) * 0x100000001b3u;
	h *= 0x100000001b3u;
	for (; *msg; msg++)
		h = (h ^ (uint8_t) *msg) * 0x100000001b3u;
	return h ? h : 1;
}

/* Under the lock. May this line pass? *suppressed = how many did not before it. */
static bool rate_pass (const char *mod, const char *msg, unsigned *suppressed)
{
	uint64_t h = hash_of (mod, msg);
	int64_t now = clock_now_ms ();
	struct rate *r = NULL;

	for (unsigned i = 0; i < RATE_PROBES; i++) {
		struct rate *q = &rates[(h + i) % RATE_SLOTS];
		if (q->hash == h) {
			r = q;
			break;
		}
		if (!r || q->since_ms < r->since_ms || (!q->hash && r->hash))
			r = q;
	}
	if (r->hash != h)
		*r = (struct rate){ .hash = h, .since_ms = now };
	if (now - r->since_ms >= LOG_BURST_MS || now < r->since_ms) {
		r->since_ms = now;
		r->count = 0;
	}
	if (r->count >= LOG_BURST) {
		r->suppressed++;
		return false;
	}
	r->count++;
	*suppressed = r->suppressed;
	r->suppressed = 0;
	return true;
}

/* Under the lock. A reader that does not read must not stop us. */
static void put (const char *s, size_t n)
{
	struct pollfd p = { .fd = log_fd, .events = POLLOUT };
	ssize_t rc;

	if (poll (&p, 1, 0) != 1 || !(p.revents & POLLOUT)) {
		dropped++;
		return;
	}
	do
		rc = write (log_fd, s, n);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		dropped++;
}

void log_line (enum log_level level, const char *mod, const char *msg, const char *fmt, ...)
{
	int saved = errno;
	struct line l = { .n = 0 };
	unsigned suppressed = 0;
	char ts[32], num[32];
	struct args a;

	if (!log_enabled (level))
		return;
	if ((unsigned) level > LOG_ERROR)
		level = LOG_ERROR;
	mod = mod ? mod : "";
	msg = msg ? msg : "";
	pthread_mutex_lock (&lock);
	if (!rate_pass (mod, msg, &suppressed)) {
		pthread_mutex_unlock (&lock);
		errno = saved;
		return;
	}
	line_str (&l, "ts=");
	line_str (&l, clock_iso (clock_real_ns (), ts));
	line_kv (&l, "lvl", level_names[level]);
	line_kv (&l, "mod", mod);
	if (log_prog[0])
		line_kv (&l, "prog", log_prog);
	snprintf (num, sizeof (num), "%d", (int) getpid ());
	line_kv (&l, "pid", num);
	line_key (&l, "msg", 3, msg, strnlen (msg, 512));
	if (suppressed) {
		snprintf (num, sizeof (num), "%u", suppressed);
		line_kv (&l, "suppressed", num);
	}
	if (dropped) {
		snprintf (num, sizeof (num), "%u", dropped);
		line_kv (&l, "dropped", num);
		dropped = 0;
	}
	if (fmt) {
		errno = saved; /* %m */
		va_start (a.ap, fmt);
		line_format (&l, fmt, &a);
		va_end (a.ap);
	}
	if (l.full && l.n + 11 < sizeof (l.s)) {
		l.full = false;
		line_str (&l, " cut=true");
	}
	l.s[l.n++] = '\n';
	put (l.s, l.n);
	pthread_mutex_unlock (&lock);
	errno = saved;
}

void log_err (enum log_level level, const char *mod, const char *msg, const struct err *err)
{
	if (!err)
		log_line (level, mod, msg, NULL);
	else
		log_line (level, mod, msg, "code=%s fault=%s err=%s", err_name (err->code), err_fault_name (err->fault),
			  err->text);
}
