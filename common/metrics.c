/* SPDX-License-Identifier: Apache-2.0 */
/* Series are kept in a list per family, so that the text has one HELP and TYPE for each name. */
#include "common/metrics.h"
#include "common/xmem.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

static const int64_t bounds_ns[] = {
	50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 25000000, 50000000, 100000000, 250000000,
	500000000, 1000000000, 2500000000, 5000000000, 10000000000, 30000000000, 60000000000,
};
enum { BOUNDS = sizeof (bounds_ns) / sizeof (bounds_ns[0]) };

struct metric {
	struct metric *next;	/* of the same family */
	struct family *family;
	char *labels;		/* owned; "" = none */
	int64_t count;		/* counter's value; observations of a histogram */
	double value;		/* gauge */
	int64_t sum_ns;
	int64_t *buckets;	/* owned; BOUNDS + 1, not cumulative */
};

struct family {
	struct family *next;
	char *name, *help;
	enum metric_type type;
	struct metric *first, **tail;
};

static struct family *families, **families_tail = &families;

static struct family *family_get (enum metric_type type, const char *name, const char *help)
{
	struct family *f;

	for (f = families; f; f = f->next)
		if (strcmp (f->name, name) == 0)
			return f;
	f = xcalloc (1, sizeof (*f));
	f->name = xstrdup (name);
	f->help = xstrdup (help ? help : "");
	f->type = type;
	f->tail = &f->first;
	*families_tail = f;
	families_tail = &f->next;
	return f;
}

static struct metric *metric_get (enum metric_type type, const char *name, const char *labels, const char *help)
{
	struct family *f = family_get (type, name, help);
	struct metric *m;

	if (!labels)
		labels = "";
	for (m = f->first; m; m = m->next)
		if (strcmp (m->labels, labels) == 0)
			return m;
	m = xcalloc (1, sizeof (*m));
	m->family = f;
	m->labels = xstrdup (labels);
	m->buckets = f->type == METRIC_HISTOGRAM ? xcalloc (BOUNDS + 1, sizeof (*m->buckets)) : NULL;
	*f->tail = m;
	f->tail = &m->next;
	return m;
}

struct metric *metrics_counter (const char *name, const char *labels, const char *help)
{
	return metric_get (METRIC_COUNTER, name, labels, help);
}

struct metric *metrics_gauge (const char *name, const char *labels, const char *help)
{
	return metric_get (METRIC_GAUGE, name, labels, help);
}

struct metric *metrics_histogram (const char *name, const char *labels, const char *help)
{
	return metric_get (METRIC_HISTOGRAM, name, labels, help);
}

void metric_add (struct metric *m, int64_t n)
{
	if (m->family->type == METRIC_GAUGE)
		m->value += (double) n;
	else if (n > 0)
		m->count += n;	/* counters never go back */
}

void metric_set (struct metric *m, double v)
{
	m->value = v;
}

void metric_observe_ns (struct metric *m, int64_t ns)
{
	int lo = 0, hi = BOUNDS;

	if (!m->buckets)
		return;
	if (ns < 0)
		ns = 0;		/* the real-time clock was set back */
	while (lo < hi) {
		int mid = (lo + hi) / 2;
		if (ns <= bounds_ns[mid])
			hi = mid;
		else
			lo = mid + 1;
	}
	m->buckets[lo]++;
	m->count++;
	m->sum_ns += ns;
}

/* Exact: %g of a bound in seconds would lose nothing here, but sums need nine digits. */
static void put_seconds (struct buf *out, int64_t ns)
{
	char text[40];
	int n = snprintf (text, sizeof (text), "%" PRId64 ".%09" PRId64, ns / 1000000000, ns % 1000000000);

	while (text[n - 1] == '0')
		n--;
	if (text[n - 1] == '.')
		n--;
	buf_add (out, text, (size_t) n);
}

static void put_name (struct buf *out, const struct metric *m, const char *suffix)
{
	buf_printf (out, "%s%s", m->family->name, suffix);
	if (*m->labels)
		buf_printf (out, "{%s}", m->labels);
	buf_char (out, ' ');
}

static void put_histogram (struct buf *out, const struct metric *m)
{
	int64_t below = 0;

	for (int i = 0; i <= BOUNDS; i++) {
		below += m->buckets[i];
		buf_printf (out, "%s_bucket{%s%sle=\"", m->family->name, m->labels, *m->labels ? "," : "");
		if (i < BOUNDS)
			put_seconds (out, bounds_ns[i]);
		else
			buf_str (out, "+Inf");
		buf_printf (out, "\"} %" PRId64 "\n", below);
	}
	put_name (out, m, "_sum");
	put_seconds (out, m->sum_ns);
	buf_char (out, '\n');
	put_name (out, m, "_count");
	buf_printf (out, "%" PRId64 "\n", m->count);
}

static void put_help (struct buf *out, const char *name, const char *help, const char *type)
{
	buf_printf (out, "# HELP %s ", name);
	for (; *help; help++)
		if (*help == '\n')
			buf_str (out, "\\n");
		else if (*help == '\\')
			buf_str (out, "\\\\");
		else
			buf_char (out, *help);
	buf_printf (out, "\n# TYPE %s %s\n", name, type);
}

static int64_t resident_bytes (void)
{
	long long total = 0, resident = 0;
	FILE *f = fopen ("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (fscanf (f, "%lld %lld", &total, &resident) != 2)
		resident = 0;
	fclose (f);
	return resident * sysconf (_SC_PAGESIZE);
}

static int64_t open_fds (void)
{
	DIR *d = opendir ("/proc/self/fd");
	int64_t n = -1;		/* the one of opendir itself */

	if (!d)
		return 0;
	for (struct dirent *e; (e = readdir (d));)
		n += e->d_name[0] != '.';
	closedir (d);
	return n;
}

static int64_t cpu_ns (void)
{
	struct rusage u;

	if (getrusage (RUSAGE_SELF, &u) < 0)
		return 0;
	return (int64_t) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
	       (int64_t) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static void put_process (struct buf *out)
{
	put_help (out, "process_resident_memory_bytes", "Resident memory size in bytes.", "gauge");
	buf_printf (out, "process_resident_memory_bytes %" PRId64 "\n", resident_bytes ());
	put_help (out, "process_cpu_seconds_total", "User and system CPU time in seconds.", "counter");
	buf_str (out, "process_cpu_seconds_total ");
	put_seconds (out, cpu_ns ());
	buf_char (out, '\n');
	put_help (out, "process_open_fds", "Open file descriptors.", "gauge");
	buf_printf (out, "process_open_fds %" PRId64 "\n", open_fds ());
}

void metrics_render (struct buf *out)
{
	static const char *const type[] = { "counter", "gauge", "histogram" };

	for (const struct family *f = families; f; f = f->next) {
		put_help (out, f->name, f->help, type[f->type]);
		for (const struct metric *m = f->first; m; m = m->next) {
			if (f->type == METRIC_HISTOGRAM) {
				put_histogram (out, m);
				continue;
			}
			put_name (out, m, "");
			if (f->type == METRIC_GAUGE)
				buf_printf (out, "%.15g\n", m->value);
			else
				buf_printf (out, "%" PRId64 "\n", m->count);
		}
	}
	put_process (out);
}
