/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: a process per call, in an empty work directory. The payload is its standard input, its standard output the result. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base64.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "proto/msg_resources.h"
#include "worker/child.h"
#include "worker/proctree.h"
#include "worker/runners/runner.h"
#include "worker/text.h"
#include "worker/workdir.h"

enum { ARGS_MAX = 4096, ENV_MAX = 4096, CWD_FILES_MAX = 1024, ERROR_TAIL = 4096 };

struct command {
	const struct runner_host *h;	/* borrowed */
	char *cwd;
	struct child *child;		/* NULL between calls */
	struct id task;
	void *input;			/* a payload from the bulk store, while the call lasts */
	uint32_t max_result_bytes;
	int64_t start_ns;
	uint64_t output_bytes;
	bool too_large;
	struct tail output_tail;	/* once it is too large */
	struct buf output, out, errout, error;
};

/* ---- what to run ---------------------------------------------------------------------------------------------- */

struct plan { json_t *root; const char **argv, **env; char **owned; size_t nowned; };

static void plan_fini (struct plan *p)
{
	size_t i;

	for (i = 0; i < p->nowned; i++)
		free (p->owned[i]);
	free (p->owned);
	free (p->argv);
	free (p->env);
	json_decref (p->root);
}

static int bad (struct err *err, const char *what)
{
	return err_set (err, ERR_TASK_DECODE, FAULT_USER, "code of a command: %s", what);
}

static int plan_argv (struct plan *p, struct err *err)
{
	json_t *list = json_object_get (p->root, "argv"), *item;
	size_t i;

	if (!json_is_array (list) || json_array_size (list) == 0)
		return bad (err, "'argv' must be an array of strings with at least one");
	if (json_array_size (list) > ARGS_MAX)
		return bad (err, "'argv' has more than 4096 strings");
	p->argv = xcalloc (json_array_size (list) + 1, sizeof (*p->argv));
	json_array_foreach (list, i, item) {
		if (!json_is_string (item))
			return bad (err, "'argv' must hold strings only");
		p->argv[i] = json_string_value (item);
	}
	return p->argv[0][0] ? 0 : bad (err, "the program's name is empty");
}

static bool env_overrides (const struct plan *p, const char *name, size_t n)
{
	size_t i;

	for (i = 0; i < p->nowned; i++)
		if (strncmp (p->owned[i], name, n) == 0 && p->owned[i][n] == '=')
			return true;
	return false;
}

/* Ours, but for what the function sets, what the task's nodes need (environ) and the two names that tell the task. */
static int plan_env (struct plan *p, const struct id *task, struct wire_str environ_list, struct err *err)
{
	json_t *set = json_object_get (p->root, "env"), *value;
	const char *key;
	char text[ID_TEXT];
	size_t n = 0, i, total = 0, more = 0;
	struct wire_str list = environ_list, entry;

	if (set && !json_is_object (set))
		return bad (err, "'env' must be an object of strings");
	if (json_object_size (set) > ENV_MAX)
		return bad (err, "'env' has more than 4096 names");
	while (environ[total])
		total++;
	while (msg_resources_environ_next (&list, &entry))
		more++;
	p->owned = xcalloc (json_object_size (set) + 2 + more, sizeof (*p->owned));
	p->env = xcalloc (json_object_size (set) + 2 + more + total + 1, sizeof (*p->env));
	id_text (task, text);
	p->owned[p->nowned++] = xasprintf ("WEFT_TASK_ID=%s", text);
	p->owned[p->nowned++] = xasprintf ("GC_TASK_UUID=%s", text);
	while (msg_resources_environ_next (&environ_list, &entry))
		p->owned[p->nowned++] = xstrdup (entry.p);
	json_object_foreach (set, key, value) {
		if (!json_is_string (value) || !key[0] || strchr (key, '='))
			return bad (err, "'env' must be an object of strings");
		p->owned[p->nowned++] = xasprintf ("%s=%s", key, json_string_value (value));
	}
	for (i = 0; i < p->nowned; i++)
		p->env[n++] = p->owned[i];
	for (i = 0; i < total; i++)
		if (!env_overrides (p, environ[i], strcspn (environ[i], "=")))
			p->env[n++] = environ[i];
	return 0;
}

static int place_files (const struct plan *p, const char *cwd, struct err *err)
{
	json_t *files = json_object_get (p->root, "cwd_files"), *value;
	const char *name;

	if (!files)
		return 0;
	if (!json_is_object (files) || json_object_size (files) > CWD_FILES_MAX)
		return bad (err, "'cwd_files' must be an object of at most 1024 strings");
	json_object_foreach (files, name, value) {
		char *path;
		int rc;

		if (!json_is_string (value) || !name[0] || strlen (name) > 200 || strchr (name, '/') || strcmp (name, ".") == 0
		    || strcmp (name, "..") == 0)
			return bad (err, "'cwd_files' must map file names without '/' to text");
		path = xasprintf ("%s/%s", cwd, name);
		rc = workdir_file (path, json_string_value (value), json_string_length (value), 0700, err);
		free (path);
		if (rc < 0)
			return -1;
	}
	return 0;
}

static int plan_make (struct plan *p, const struct runner_call *c, struct err *err)
{
	json_error_t je;

	memset (p, 0, sizeof (*p));
	if (!(p->root = json_loadb (c->fn->code.p, c->fn->code.n, JSON_REJECT_DUPLICATES, &je)))
		return err_set (err, ERR_TASK_DECODE, FAULT_USER, "code of a command is not JSON: %s", je.text);
	if (!json_is_object (p->root))
		return bad (err, "expected an object with 'argv'");
	return plan_argv (p, err) < 0 || plan_env (p, &c->task, c->environ, err) < 0 ? -1 : 0;
}

/* ---- the process ---------------------------------------------------------------------------------------------- */

static void on_output (struct child *c, struct buf *in, void *arg)
{
	struct command *m = arg;

	(void) c;
	m->output_bytes += in->len;
	if (!m->too_large && m->output.len + in->len <= m->max_result_bytes) {
		buf_add (&m->output, in->data, in->len);
		m->too_large = buf_failed (&m->output);
	} else {
		if (!m->too_large)
			tail_add (&m->output_tail, m->output.data, m->output.len);
		m->too_large = true;
		tail_add (&m->output_tail, in->data, in->len);
		buf_clear (&m->output);
	}
	buf_clear (in);
}

static void set_failed (struct msg_runner_result *r, int code, struct buf *error, const char *text)
{
	r->status = STATUS_FAILED;
	r->fault = FAULT_USER;
	r->code = (uint16_t) code;
	buf_str (error, text);
}

/* out: stdout as a tail, for a command that failed. */
static void tell_failure (struct command *m, struct msg_runner_result *r, int status)
{
	char text[300];
	size_t skip = m->errout.len > ERROR_TAIL ? m->errout.len - ERROR_TAIL : 0;

	if (status == SPAWN_CANNOT_RUN && m->errout.len > 12 && memcmp (m->errout.data, "cannot run '", 12) == 0)
		snprintf (text, sizeof (text), "on node %s: ", m->h->node);
	else
		snprintf (text, sizeof (text), "the command ended with exit status %d on node %s%s", status, m->h->node,
			  m->errout.len ? "\n" : "");
	set_failed (r, ERR_TASK_EXIT, &m->error, text);
	while (skip < m->errout.len && skip > 0 && (m->errout.data[skip] & 0xc0) == 0x80)
		skip++;
	buf_add (&m->error, m->errout.data + skip, m->errout.len - skip);
	if (m->too_large)
		tail_copy (&m->output_tail, &m->out);
	else
		buf_add (&m->out, m->output.data, m->output.len);
	tail_make_text (&m->out);
}

static void tell_success (struct command *m, struct msg_runner_result *r)
{
	char text[200];

	r->status = STATUS_SUCCESS;
	if (!m->too_large && !text_is_utf8 (m->output.data, m->output.len)) {
		base64_encode (&m->out, m->output.data, m->output.len);
		r->result = wire_str ((char *) m->out.data, m->out.len);
		r->flags = RESULT_BASE64;
	} else {
		r->result = wire_str ((char *) m->output.data, m->output.len);
	}
	if (!m->too_large && r->result.n <= m->max_result_bytes)
		return;
	snprintf (text, sizeof (text), "MaxResultSizeExceeded: the command wrote %llu bytes%s, the limit is %u",
		  (unsigned long long) m->output_bytes, r->flags ? " that must be sent as base64" : "", m->max_result_bytes);
	r->result.n = 0;
	r->flags = 0;
	set_failed (r, ERR_TASK_RESULT_TOO_LARGE, &m->error, text);
	buf_clear (&m->out);
	tail_copy (&m->output_tail, &m->out);
	tail_make_text (&m->out);
	r->out = wire_str ((char *) m->out.data, m->out.len);
}

static void gather (struct command *m, struct child *c)
{
	buf_clear (&m->out);
	buf_clear (&m->errout);
	buf_clear (&m->error);
	child_tails (c, &m->out, &m->errout);
	tail_make_text (&m->errout);
}

static uint64_t cpu_of (const struct rusage *ru)
{
	return (uint64_t) (ru->ru_utime.tv_sec + ru->ru_stime.tv_sec) * 1000000000u
	       + (uint64_t) (ru->ru_utime.tv_usec + ru->ru_stime.tv_usec) * 1000u;
}

static void on_end (struct child *c, int status, const struct rusage *ru, void *arg)
{
	struct command *m = arg;
	struct msg_runner_result r = { .task = m->task, .start_ns = m->start_ns };
	struct runner_death d = { .status = status, .ready = true, .ru = ru };
	bool killed = child_killed (c);

	gather (m, c);
	if (spawn_has_strays ())
		proctree_kill (child_pid (c));	/* what it left in the background */
	child_destroy (&m->child);
	free (m->input);
	m->input = NULL;
	if (killed || !WIFEXITED (status)) {
		if (m->too_large)
			tail_copy (&m->output_tail, &m->out);
		else
			buf_add (&m->out, m->output.data, m->output.len);
		m->h->events->died (m->h->arg, &d);
		return;
	}
	r.end_ns = clock_real_ns ();
	r.cpu_ns = cpu_of (ru);
	r.max_rss_bytes = (uint64_t) ru->ru_maxrss * 1024;
	if (WEXITSTATUS (status) == 0) {
		tell_success (m, &r);
	} else {
		tell_failure (m, &r, WEXITSTATUS (status));
		r.out = wire_str ((char *) m->out.data, m->out.len);
	}
	r.error = wire_str ((char *) m->error.data, m->error.len);
	r.errout = wire_str ((char *) m->errout.data, m->errout.len);
	m->h->events->result (m->h->arg, &r, WEXITSTATUS (status));
}

static const struct child_ops child_ops = { .on_output = on_output, .on_exit = on_end };	/* what it closes is its own affair */

/* Shorter than it should be: with *err. */
static struct wire_str read_input (struct command *m, const struct bulk_ref *r, struct err *err)
{
	free (m->input);
	if (!(m->input = malloc (r->bytes)))
		err_set (err, ERR_LIMIT, FAULT_SITE, "no memory for a payload of %u bytes", r->bytes);
	return wire_str (m->input, m->input && bulk_get (m->h->bulk, r, m->input, err) == 0 ? r->bytes : 0);
}

static int call (void *self, const struct runner_call *c, struct err *err)
{
	struct command *m = self;
	struct child_opts o = { .cwd = m->cwd, .in_fd = 0, .out_fd = 1 };
	struct wire_str input = c->payload;
	struct plan plan;
	int rc = -1;

	if (m->child)
		return err_set (err, ERR_BAD_STATE, FAULT_SELF, "a command is running");
	if (c->flags & RUNNER_OWN_DIR)
		o.cwd = m->h->task_dir;
	if (plan_make (&plan, c, err) < 0 || (o.cwd == m->cwd && workdir_empty (m->cwd, err) < 0) || place_files (&plan, o.cwd, err) < 0)
		goto out;
	m->task = c->task;
	m->max_result_bytes = c->max_result_bytes;
	m->output_bytes = 0;
	m->too_large = false;
	tail_clear (&m->output_tail);
	buf_fini (&m->output);
	buf_init (&m->output, (size_t) c->max_result_bytes + 1);
	m->start_ns = clock_real_ns ();
	o.argv = plan.argv;
	o.env = plan.env;
	if (c->flags & TASK_BULK && (input = read_input (m, c->bulk, err)).n != c->bulk->bytes)
		goto out;
	if (!(m->child = child_start (m->h->loop, &o, &child_ops, m, err)))
		goto out;
	child_write_borrowed (m->child, input.p, input.n);
	rc = 0;
out:
	plan_fini (&plan);
	return rc;
}

static void flush (void *self)
{
	struct command *m = self;

	if (m->child)
		child_end_input (m->child);
}

static void command_kill (void *self)
{
	struct command *m = self;

	if (m->child)
		child_kill (m->child);
}

static pid_t pid (void *self)
{
	struct command *m = self;

	return m->child ? child_pid (m->child) : 0;
}

static void tails (void *self, struct buf *out, struct buf *errout)
{
	struct command *m = self;

	buf_add (out, m->out.data, m->out.len);
	buf_add (errout, m->errout.data, m->errout.len);
}

static void news (void *self, const struct id *task, struct child_news *n)
{
	struct command *m = self;
	uint64_t *seen = &n->seen[0];	/* the shared memory's, which commands do not have */

	if (!m->child)
		return;
	child_news (m->child, task, n);
	if (m->too_large)
		tail_add_new (&n->text[0], &m->output_tail, seen);
	else if (m->output.len > *seen) {
		tail_add (&n->text[0], m->output.data + *seen, m->output.len - *seen);
		*seen = m->output.len;
	}
}

static int create (void **self, const struct runner_host *h, struct err *err)
{
	struct command *m = xcalloc (1, sizeof (*m));

	m->h = h;
	m->cwd = xasprintf ("%s/work-command", h->dir);
	tail_init (&m->output_tail);
	buf_init (&m->output, 0);
	buf_init (&m->out, 0);
	buf_init (&m->errout, 0);
	buf_init (&m->error, 0);
	*self = m;
	return workdir_make (m->cwd, err);
}

static void destroy (void **self)
{
	struct command *m = *self;

	if (!m)
		return;
	child_destroy (&m->child);
	free (m->input);
	workdir_empty (m->cwd, NULL);
	free (m->cwd);
	tail_fini (&m->output_tail);
	buf_fini (&m->output);
	buf_fini (&m->out);
	buf_fini (&m->errout);
	buf_fini (&m->error);
	free (m);
	*self = NULL;
}

const struct runner_ops runner_command = {
	.name = "command",
	.kinds = RUNNER_KIND (KIND_COMMAND),
	.kept = false,
	.create = create,
	.destroy = destroy,
	.start = NULL,
	.call = call,
	.flush = flush,
	.kill = command_kill,
	.pid = pid,
	.tails = tails,
	.news = news,
};
