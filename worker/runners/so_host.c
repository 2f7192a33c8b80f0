/* SPDX-License-Identifier: Apache-2.0 */
/* Loads shared objects and calls them (weft_function.h), speaking SPEC.md section 7 on descriptors 3 and 4. One thread, blocking:
 * it is not the worker, and dies of what its functions do. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "common/base64.h"
#include "common/clock.h"
#include "common/map.h"
#include "common/xmem.h"
#include "proto/bulk.h"
#include "proto/msg_function.h"
#include "proto/msg_runner.h"
#include "worker/child.h"
#include "worker/runners/so_environ.h"
#include "worker/runners/so_host.h"
#include "worker/runners/weft_function.h"
#include "worker/text.h"
#include "worker/workdir.h"

struct object {
	struct msg_function fn;		/* slices into record */
	uint8_t *record;
	weft_function_f *call;		/* NULL until it is loaded */
	weft_batch_f *batch;		/* NULL = it has none */
	char *entry;
};

struct host {
	const char *dir;
	int cwd;			/* where it starts */
	uint8_t *current;		/* in memory shared with the worker: the task whose call has begun */
	struct bulk *bulk;		/* NULL = none */
	struct map *objects;
	struct buf in, frame;
};

struct output { struct buf result; char error[4096]; };

/* One input on its way: what the function gets, and where it writes to. */
struct input {
	struct output out;
	char id[ID_TEXT];
	uint8_t *payload;		/* owned */
	struct weft_in in;
	struct weft_out wo;
};

static int write_all (const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t w = write (RUNNER_FD_OUT, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -1;
		p += w;
		n -= (size_t) w;
	}
	return 0;
}

static int out_write (struct weft_out *out, const void *data, size_t size)
{
	struct output *o = out->self;

	buf_add (&o->result, data, size);
	return buf_failed (&o->result) ? -1 : 0;
}

static void out_error (struct weft_out *out, const char *text)
{
	struct output *o = out->self;

	snprintf (o->error, sizeof (o->error), "%s", text ? text : "");
	text_make_utf8 (o->error, strlen (o->error));
}

static int load (struct host *h, struct object *o, struct err *err)
{
	char id[ID_TEXT], *path = NULL;
	struct buf elf;
	void *handle;
	int rc = -1;

	buf_init (&elf, WIRE_MAX_CODE);
	if (base64_decode (&elf, o->fn.code.p, o->fn.code.n) < 0) {
		err_set (err, ERR_TASK_DECODE, FAULT_USER, "code of a shared object must be base64 of the ELF file");
		goto out;
	}
	path = xasprintf ("%s/%s.so", h->dir, id_text (&o->fn.id, id));
	if (workdir_file (path, elf.data, elf.len, 0700, err) < 0)
		goto out;
	handle = dlopen (path, RTLD_NOW | RTLD_LOCAL);
	so_environ_keep ();
	if (!handle) {
		err_set (err, ERR_TASK_DECODE, FAULT_USER, "cannot load the shared object: %s", dlerror ());
		goto out;
	}
	*(void **) &o->call = dlsym (handle, o->entry);
	if (!o->call) {
		err_set (err, ERR_TASK_DECODE, FAULT_USER, "the shared object has no symbol '%.200s'", o->entry);
		dlclose (handle);
		goto out;
	}
	if (o->fn.flags & FUNCTION_BATCH) {
		char *name = xasprintf ("%s_batch", o->entry);
		*(void **) &o->batch = dlsym (handle, name);
		free (name);
	}
	rc = 0;
out:
	if (path)
		unlink (path);			/* the mapping stays */
	free (path);
	buf_fini (&elf);
	return rc;
}

static void take_function (struct host *h, struct wire_str body)
{
	struct object *o = xcalloc (1, sizeof (*o));
	struct err err;

	if (!(o->record = malloc (body.n ? body.n : 1)))
		_exit (1);
	memcpy (o->record, body.p, body.n);
	if (msg_function_decode (&o->fn, o->record, body.n, &err) < 0) {
		fprintf (stderr, "so-runner: %s\n", err.text);
		_exit (1);
	}
	o->entry = o->fn.entry.n ? strndup (o->fn.entry.p, o->fn.entry.n) : xstrdup ("weft_function");
	map_put (h->objects, &o->fn.id, o);
}

static uint64_t cpu_ns (void)
{
	struct timespec t;

	clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static void set_failed (struct msg_runner_result *r, int code, int fault, const char *text)
{
	r->status = STATUS_FAILED;
	r->fault = (uint8_t) fault;
	r->code = (uint16_t) code;
	r->error = wire_str (text, strlen (text));
}

static void judge (struct msg_runner_result *r, int rc, struct output *o, uint32_t limit, char text[160])
{
	if (rc != 0 && !buf_failed (&o->result)) {
		if (!o->error[0])
			snprintf (o->error, sizeof (o->error), "the function returned %d", rc);
		set_failed (r, ERR_TASK_EXCEPTION, FAULT_USER, o->error);
	} else if (buf_failed (&o->result)) {
		snprintf (text, 160, "MaxResultSizeExceeded: the function wrote more than the limit of %u bytes", limit);
		set_failed (r, ERR_TASK_RESULT_TOO_LARGE, FAULT_USER, text);
	} else {
		r->status = STATUS_SUCCESS;
		r->result = wire_str ((char *) o->result.data, o->result.len);
	}
}

static void make_text (struct msg_runner_result *r, struct buf *text, uint32_t limit, char error[160])
{
	if (text_is_utf8 (r->result.p, r->result.n))
		return;
	base64_encode (text, r->result.p, r->result.n);
	r->flags = RESULT_BASE64;
	r->result = wire_str ((char *) text->data, text->len);
	if (text->len <= limit && !buf_failed (text))
		return;
	r->result.n = 0;
	r->flags = 0;
	snprintf (error, 160, "MaxResultSizeExceeded: the result has more than %u bytes as base64", limit);
	set_failed (r, ERR_TASK_RESULT_TOO_LARGE, FAULT_USER, error);
}

/* A copy with a NUL behind it; from the bulk store when ref is set. NULL: it cannot be read. */
static uint8_t *copy_payload (const struct host *h, struct wire_str payload, const struct bulk_ref *ref, struct err *err)
{
	size_t n = ref ? ref->bytes : payload.n;
	uint8_t *p = malloc (n + 1);

	if (!p)
		_exit (1);
	p[n] = 0;
	if (!ref) {
		if (n)
			memcpy (p, payload.p, n);
		return p;
	}
	if (!h->bulk)
		err_set (err, ERR_NOT_FOUND, FAULT_SELF, "its payload is in a bulk store that its runner does not have");
	else if (bulk_get (h->bulk, ref, p, err) == 0)
		return p;
	free (p);
	return NULL;
}

/* payload: transferred. */
static void input_open (struct input *p, struct object *o, const struct id *task, uint32_t flags, uint32_t limit, uint8_t *payload, size_t n)
{
	p->payload = payload;
	buf_init (&p->out.result, limit ? limit : 1);
	p->in = (struct weft_in){ WEFT_FUNCTION_ABI, flags & 1, p->payload, n, id_text (task, p->id), o->entry };
	p->wo = (struct weft_out){ WEFT_FUNCTION_ABI, 0, &p->out, out_write, out_error };
}

/* A large result by reference; when the store does not take it, in the frame. */
static void put_result (const struct host *h, struct msg_runner_result *r, uint8_t ref[BULK_REF_MAX])
{
	if (!h->bulk || r->result.n <= BULK_MIN)
		return;
	if (bulk_put_result (h->bulk, &r->task, r->result.p, (uint32_t) r->result.n, &r->bulk, NULL) < 0)
		return;
	r->flags |= RESULT_BULK;
	r->result = wire_str ((char *) ref, bulk_ref_encode (&r->bulk, ref));
}

/* The R frame, appended. */
static void input_close (struct host *h, struct input *p, struct msg_runner_result *r, int rc, uint32_t limit)
{
	struct buf encoded;
	char text[160];
	uint8_t ref[BULK_REF_MAX];

	buf_init (&encoded, 0);
	judge (r, rc, &p->out, limit, text);
	make_text (r, &encoded, limit, text);
	put_result (h, r, ref);
	msg_runner_result_encode (&h->frame, r);
	buf_fini (&p->out.result);
	buf_fini (&encoded);
	free (p->payload);
}

static void begin (struct host *h, const struct id *task, struct msg_runner_result *r)
{
	struct rusage ru;

	memset (r, 0, sizeof (*r));
	if (h->current)
		memcpy (h->current, task->b, ID_BYTES);
	getrusage (RUSAGE_SELF, &ru);
	r->max_rss_bytes = (uint64_t) ru.ru_maxrss * 1024;
	r->start_ns = clock_real_ns ();
	buf_clear (&h->frame);
}

/* The directory that the worker made for this call. */
static int enter (uint32_t flags, struct err *err)
{
	if (!(flags & RUNNER_OWN_DIR) || chdir ("../task") == 0)
		return 0;
	err_errno (err, "going to the directory of the call");
	err->code = ERR_TASK_RUNNER;
	return -1;
}

/* Wherever the call has gone to. */
static void leave (const struct host *h)
{
	if (fchdir (h->cwd) < 0)
		_exit (1);	/* the next call would run in the wrong place */
}

/* Loaded, or NULL with *err. */
static struct object *find (struct host *h, const struct id *function, struct err *err)
{
	struct object *o = map_get (h->objects, function);

	if (!o)
		err_set (err, ERR_TASK_RUNNER, FAULT_SELF, "the worker named a function that it did not send");
	return o && (o->call || load (h, o, err) == 0) ? o : NULL;
}

static void end (struct msg_runner_result *r, uint64_t cpu_before, uint32_t n)
{
	r->end_ns = clock_real_ns ();
	r->cpu_ns = (cpu_ns () - cpu_before) / n;
	fflush (stdout);
	fflush (stderr);
}

static int take_call (struct host *h, struct wire_str body)
{
	struct msg_runner_call c;
	struct msg_runner_result r;
	struct input p = { .out = { .error = "" } };
	struct object *o;
	const struct bulk_ref *ref;
	uint8_t *payload = NULL;
	struct err err;
	uint64_t cpu;
	int rc;

	if (msg_runner_call_decode (&c, body.p, body.n, &err) < 0)
		return -1;
	begin (h, &c.task, &r);
	r.task = c.task;
	ref = c.flags & TASK_BULK ? &c.bulk : NULL;
	if (enter (c.flags, &err) < 0 || !(o = find (h, &c.function, &err)) || !(payload = copy_payload (h, c.payload, ref, &err))) {
		set_failed (&r, (int) err.code, (int) err.fault, err.text);
		r.end_ns = clock_real_ns ();
		msg_runner_result_encode (&h->frame, &r);
	} else {
		input_open (&p, o, &c.task, c.flags, c.max_result_bytes, payload, ref ? ref->bytes : c.payload.n);
		so_environ_begin (&c.task, c.environ);
		cpu = cpu_ns ();
		r.start_ns = clock_real_ns ();
		rc = o->call (&p.in, &p.wo);
		end (&r, cpu, 1);
		so_environ_end ();
		input_close (h, &p, &r, rc, c.max_result_bytes);
	}
	leave (h);
	return write_all (h->frame.data, h->frame.len);
}

/* With the batch symbol when there is one, else one after the other. rcs: of each input. */
static void call_all (struct object *o, struct input *p, int *rcs, uint32_t n)
{
	struct weft_in *in = xcalloc (n, sizeof (*in));
	struct weft_out *out = xcalloc (n, sizeof (*out));
	int rc;

	for (uint32_t i = 0; i < n; i++) {
		in[i] = p[i].in;
		out[i] = p[i].wo;
		if (!o->batch)
			rcs[i] = o->call (&in[i], &out[i]);
	}
	if (o->batch) {
		rc = o->batch (in, out, n);
		for (uint32_t i = 0; i < n; i++)
			rcs[i] = rc ? rc : p[i].out.error[0] ? -1 : 0;
	}
	free (in);
	free (out);
}

static void run_batch (struct host *h, struct object *o, struct msg_runner_batch b, const struct msg_runner_result *start)
{
	struct input *p = xcalloc (b.n, sizeof (*p));
	struct id *tasks = xcalloc (b.n, sizeof (*tasks));
	int *rcs = xcalloc (b.n, sizeof (*rcs));
	struct msg_runner_result common = *start, r;
	uint32_t n = b.n;
	uint64_t cpu;

	for (uint32_t i = 0; i < n; i++) {
		struct msg_runner_input in;
		msg_runner_batch_next (&b, &in);
		tasks[i] = in.task;
		input_open (&p[i], o, &in.task, b.flags, b.max_result_bytes, copy_payload (h, in.payload, NULL, NULL), in.payload.n);
	}
	cpu = cpu_ns ();
	common.start_ns = clock_real_ns ();
	so_environ_begin (&tasks[0], WIRE_STR (""));
	call_all (o, p, rcs, n);
	end (&common, cpu, n);
	so_environ_end ();
	for (uint32_t i = 0; i < n; i++) {
		r = common;
		r.task = tasks[i];
		input_close (h, &p[i], &r, rcs[i], b.max_result_bytes);
	}
	free (p);
	free (tasks);
	free (rcs);
}

static int take_batch (struct host *h, struct wire_str body)
{
	struct msg_runner_batch b, first;
	struct msg_runner_input in;
	struct msg_runner_result r;
	struct object *o;
	struct err err;

	if (msg_runner_batch_decode (&b, body.p, body.n, &err) < 0)
		return -1;
	first = b;
	msg_runner_batch_next (&first, &in);
	begin (h, &in.task, &r);
	if (enter (b.flags, &err) == 0 && (o = find (h, &b.function, &err)))
		run_batch (h, o, b, &r);
	else {
		set_failed (&r, (int) err.code, (int) err.fault, err.text);
		r.end_ns = clock_real_ns ();
		while (b.n) {
			msg_runner_batch_next (&b, &in);
			r.task = in.task;
			msg_runner_result_encode (&h->frame, &r);
		}
	}
	leave (h);
	return write_all (h->frame.data, h->frame.len);
}

static int take_frames (struct host *h)
{
	size_t at = 0;
	struct wire_str body;
	struct err err;
	uint8_t type;
	long n;

	while ((n = msg_runner_frame (h->in.data + at, h->in.len - at, &type, &body, &err)) > 0) {
		if (type == 'F')
			take_function (h, body);
		else if (type == 'C' && take_call (h, body) < 0)
			return -1;
		else if (type == 'B' && take_batch (h, body) < 0)
			return -1;
		at += (size_t) n;
	}
	buf_consume (&h->in, at);
	return n < 0 ? -1 : 0;
}

static uint8_t *map_current (void)
{
	void *p = mmap (NULL, CHILD_SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, CHILD_SHARED_FD, 0);

	close (CHILD_SHARED_FD);
	return p == MAP_FAILED ? NULL : memset ((uint8_t *) p + CHILD_SHARED_CURRENT, 0xff, ID_BYTES);	/* no task's: nothing has begun */
}

int so_host_main (int argc, char **argv)
{
	struct host h = { .dir = argc > 0 ? argv[0] : ".", .cwd = open (".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	const char *store = getenv ("WEFT_BULK_DIR");
	ssize_t n;

	h.objects = map_create ();
	if (store)
		h.bulk = bulk_open (store, false, NULL);	/* the worker has it open: only a race could make this fail */
	unsetenv ("WEFT_BULK_DIR");
	so_environ_keep ();
	h.current = map_current ();
	buf_init (&h.in, (size_t) WIRE_MAX_RECORD + (2 << 20));
	buf_init (&h.frame, 0);		/* the results of a batch stand in it together */
	fcntl (RUNNER_FD_IN, F_SETFD, FD_CLOEXEC);
	fcntl (RUNNER_FD_OUT, F_SETFD, FD_CLOEXEC);
	setvbuf (stdout, NULL, _IOLBF, 0);
	msg_runner_ready_encode (&h.frame, "{\"kinds\":[\"shared_object\"]}");
	if (write_all (h.frame.data, h.frame.len) < 0)
		return 1;
	for (;;) {
		if (buf_reserve (&h.in, 1 << 16) < 0)
			return 1;
		n = read (RUNNER_FD_IN, h.in.data + h.in.len, 1 << 16);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit (0);
		h.in.len += (size_t) n;
		if (take_frames (&h) < 0)
			_exit (1);
	}
}
