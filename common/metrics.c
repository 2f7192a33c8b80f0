/* SPDX-License-Identifier: Apache-2.0 */
/* Series are kept in a list per family, so that the text has one HELP and TYPE for each name. Their values are words of a slab: private
 * memory, or, after metrics_join, a part of memory that several processes share and that only this one writes (two for a moment, while
 * slabs are short: hence the atomic additions). Each slab says how its words are laid out; what another version of the program counted
 * is left out of the sums. */
#include "common/metrics.h"
#include "common/xmem.h"

#include <assert.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* SECONDS: a counter in ns, shown in seconds. LEAST: a gauge of which the least of all processes is shown. */
enum metric_type { METRIC_COUNTER, METRIC_SECONDS, METRIC_GAUGE, METRIC_LEAST, METRIC_HISTOGRAM };

static const int64_t bounds_ns[] = {
	50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 25000000, 50000000, 100000000, 250000000,
	500000000, 1000000000, 2500000000, 5000000000, 10000000000, 30000000000, 60000000000,
};
enum { BOUNDS = sizeof (bounds_ns) / sizeof (bounds_ns[0]), SUM_AT = BOUNDS + 1, HISTOGRAM_WORDS };

struct metric {
	struct metric *next;	/* of the same family */
	struct family *family;
	char *labels;		/* owned; "" = none */
	size_t at;		/* its first word: a value, or a histogram's buckets (not cumulative) and sum */
};

struct family {
	struct family *next;
	char *name, *help;
	enum metric_type type;
	struct metric *first, **tail;
};

/* Memory of several processes: a page with the number of slabs that were ever used, then the slabs. */
#define AREA_HEAD_BYTES 4096
#define SLAB_BYTES 65536
struct slab {
	int64_t alive;		/* 0 = its process is gone: gauges do not count */
	uint64_t layout;	/* of its words */
	int64_t words[];
};
#define SLAB_WORDS ((SLAB_BYTES - sizeof (struct slab)) / sizeof (int64_t))

static struct family *families, **families_tail = &families;
static int64_t *words;		/* ours; owned until shared */
static size_t nwords;
static uint64_t layout = 14695981039346656037u;	/* FNV-1a over what was registered */
static uint8_t *area;		/* NULL: we count alone */
static unsigned area_slabs;

static void note_layout (const char *text)
{
	do
		layout = (layout ^ (uint8_t) *text) * 1099511628211u;
	while (*text++);
}

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
	size_t n = f->type == METRIC_HISTOGRAM ? HISTOGRAM_WORDS : 1;
	struct metric *m;

	if (!labels)
		labels = "";
	for (m = f->first; m; m = m->next)
		if (strcmp (m->labels, labels) == 0)
			return m;
	assert (!area);		/* metrics_join comes last */
	m = xcalloc (1, sizeof (*m));
	m->family = f;
	m->labels = xstrdup (labels);
	m->at = nwords;
	words = xrealloc (words, (nwords + n) * sizeof (*words));
	memset (words + nwords, 0, n * sizeof (*words));
	nwords += n;
	note_layout (name);
	note_layout (labels);
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

struct metric *metrics_gauge_least (const char *name, const char *labels, const char *help)
{
	return metric_get (METRIC_LEAST, name, labels, help);
}

struct metric *metrics_histogram (const char *name, const char *labels, const char *help)
{
	return metric_get (METRIC_HISTOGRAM, name, labels, help);
}

/* ---- values ------------------------------------------------------------------------------------------------- */

static bool is_gauge (const struct metric *m)
{
	return m->family->type == METRIC_GAUGE || m->family->type == METRIC_LEAST;
}

static void word_add (size_t at, int64_t n)
{
	__atomic_fetch_add (&words[at], n, __ATOMIC_RELAXED);
}

static double as_double (int64_t word)
{
	double v;

	memcpy (&v, &word, sizeof (v));
	return v;
}

void metric_set (struct metric *m, double v)
{
	int64_t word;

	memcpy (&word, &v, sizeof (word));
	__atomic_store_n (&words[m->at], word, __ATOMIC_RELAXED);
}

void metric_add (struct metric *m, int64_t n)
{
	if (is_gauge (m))
		metric_set (m, as_double (words[m->at]) + (double) n);
	else if (n > 0)
		word_add (m->at, n);	/* counters never go back */
}

void metric_observe_ns (struct metric *m, int64_t ns)
{
	int lo = 0, hi = BOUNDS;

	if (m->family->type != METRIC_HISTOGRAM)
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
	word_add (m->at + (size_t) lo, 1);
	word_add (m->at + SUM_AT, ns);
}

/* ---- several processes -------------------------------------------------------------------------------------- */

static struct slab *slab_at (unsigned i)
{
	return (struct slab *) (area + AREA_HEAD_BYTES + (size_t) i * SLAB_BYTES);
}

int metrics_area (unsigned slabs, struct err *err)
{
	int fd = memfd_create ("metrics", MFD_CLOEXEC);

	if (fd < 0 || ftruncate (fd, AREA_HEAD_BYTES + (off_t) slabs * SLAB_BYTES) < 0) {
		err_errno (err, "making memory for the metrics of %u processes", slabs);
		if (fd >= 0)
			close (fd);
		return -1;
	}
	return fd;
}

/* With what was counted alone. It is alive only when all is in it, and counts only when the number says that it is used. */
static void take_slab (struct slab *s, unsigned i, const int64_t *own)
{
	unsigned *used = (unsigned *) area, seen = __atomic_load_n (used, __ATOMIC_RELAXED);

	if (s->layout != layout)
		memset (s, 0, SLAB_BYTES);	/* of another version */
	words = s->words;
	for (struct family *f = families; f; f = f->next)
		for (struct metric *m = f->first; m; m = m->next) {
			if (is_gauge (m))
				metric_set (m, as_double (own[m->at]));
			else
				for (size_t k = 0; k < (f->type == METRIC_HISTOGRAM ? HISTOGRAM_WORDS : 1); k++)
					word_add (m->at + k, own[m->at + k]);
		}
	s->layout = layout;
	__atomic_store_n (&s->alive, getpid (), __ATOMIC_RELEASE);
	while (seen < i + 1 && !__atomic_compare_exchange_n (used, &seen, i + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

int metrics_join (int fd, unsigned slab, struct err *err)
{
	struct stat st;
	int64_t *own;

	metrics_process ();
	if (fstat (fd, &st) < 0 || st.st_size < AREA_HEAD_BYTES + (off_t) (slab + 1) * SLAB_BYTES || nwords > SLAB_WORDS) {
		close (fd);
		return err_set (err, ERR_INTERNAL, FAULT_SELF, "no room for %zu metrics in slab %u", nwords, slab);
	}
	area = mmap (NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (area == MAP_FAILED) {
		area = NULL;
		err_errno (err, "mapping the memory of metrics");
		close (fd);
		return -1;
	}
	close (fd);
	area_slabs = (unsigned) ((st.st_size - AREA_HEAD_BYTES) / SLAB_BYTES);
	own = words;
	take_slab (slab_at (slab), slab, own);
	free (own);
	return 0;
}

void metrics_left (int fd, unsigned slab)
{
	int64_t nobody = 0;

	if (pwrite (fd, &nobody, sizeof (nobody), AREA_HEAD_BYTES + (off_t) slab * SLAB_BYTES) < 0)
		return;		/* memory of our own: it cannot fail while it has that size */
}

/* The next slab that counts, from *i on; NULL = no more. */
static const struct slab *next_slab (unsigned *i)
{
	unsigned used = __atomic_load_n ((unsigned *) area, __ATOMIC_RELAXED);

	for (; *i < used && *i < area_slabs; (*i)++)
		if (slab_at (*i)->layout == layout)
			return slab_at ((*i)++);
	return NULL;
}

static int64_t total (size_t at)
{
	const struct slab *s;
	int64_t sum = 0;

	if (!area)
		return words[at];
	for (unsigned i = 0; (s = next_slab (&i));)
		sum += __atomic_load_n (&s->words[at], __ATOMIC_RELAXED);
	return sum;
}

static double gauge (const struct metric *m)
{
	double v = as_double (words[m->at]), other, sum = 0;
	const struct slab *s;

	if (!area)
		return v;
	for (unsigned i = 0; (s = next_slab (&i));) {
		if (!s->alive)
			continue;
		other = as_double (__atomic_load_n (&s->words[m->at], __ATOMIC_RELAXED));
		sum += other;
		if (other < v)
			v = other;
	}
	return m->family->type == METRIC_LEAST ? v : sum;
}

/* ---- text --------------------------------------------------------------------------------------------------- */

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
		below += total (m->at + (size_t) i);
		buf_printf (out, "%s_bucket{%s%sle=\"", m->family->name, m->labels, *m->labels ? "," : "");
		if (i < BOUNDS)
			put_seconds (out, bounds_ns[i]);
		else
			buf_str (out, "+Inf");
		buf_printf (out, "\"} %" PRId64 "\n", below);
	}
	put_name (out, m, "_sum");
	put_seconds (out, total (m->at + SUM_AT));
	buf_char (out, '\n');
	put_name (out, m, "_count");
	buf_printf (out, "%" PRId64 "\n", below);
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

void metrics_process (void)
{
	static struct metric *cpu, *memory, *fds;
	static int64_t counted;
	int64_t now = cpu_ns ();

	if (!cpu) {
		cpu = metric_get (METRIC_SECONDS, "process_cpu_seconds_total", NULL, "User and system CPU time in seconds.");
		memory = metrics_gauge ("process_resident_memory_bytes", NULL, "Resident memory size in bytes.");
		fds = metrics_gauge ("process_open_fds", NULL, "Open file descriptors.");
	}
	metric_add (cpu, now - counted);
	counted = now;
	metric_set (memory, (double) resident_bytes ());
	metric_set (fds, (double) open_fds ());
}

static void put_value (struct buf *out, const struct metric *m)
{
	put_name (out, m, "");
	if (is_gauge (m))
		buf_printf (out, "%.15g", gauge (m));
	else if (m->family->type == METRIC_SECONDS)
		put_seconds (out, total (m->at));
	else
		buf_printf (out, "%" PRId64, total (m->at));
	buf_char (out, '\n');
}

void metrics_render (struct buf *out)
{
	static const char *const type[] = { "counter", "counter", "gauge", "gauge", "histogram" };

	metrics_process ();
	for (const struct family *f = families; f; f = f->next) {
		put_help (out, f->name, f->help, type[f->type]);
		for (const struct metric *m = f->first; m; m = m->next)
			if (f->type == METRIC_HISTOGRAM)
				put_histogram (out, m);
			else
				put_value (out, m);
	}
}
