/* SPDX-License-Identifier: Apache-2.0 */
/* PBS Professional and OpenPBS: qsub, qstat, qselect, qdel. Written against 23.06, with the sources of 14.1 to 2026 at hand;
 * docs/providers/pbs.md. */
#include "endpoint/providers/pbs.h"

#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(f) offsetof (struct pbs_conf, f)
#define TEXT(name, preset, help) { "provider.pbs." #name, CONF_STRING, AT (name), preset, 0, 1000, NULL, false, help }

static const struct conf_key pbs_keys[] = {
	BATCH_KEYS ("pbs", struct pbs_conf, "single", "single pbsdsh mpiexec ssh", "#PBS"),
	TEXT (queue, NULL, "Queue of the jobs, maybe with @server; the server's default when not set."),
	TEXT (account, NULL, "Account that is charged."),
	TEXT (select_options, NULL, "What each node must have besides, e.g. ngpus=4:mem=128gb."),
	TEXT (place, "scatter", "How nodes are placed: scatter (each on a host of its own), scatter:excl (whole nodes); empty = not said."),
	{ "provider.pbs.cpus_per_node", CONF_INT, AT (cpus_per_node), "1", 0, 65536, NULL, false,
	  "Processors of each node (ncpus); 0 = not said. Where jobs are not confined to them, set workers_per_node too." },
	CONF_END
};

/* qsub reads quotes like a shell. Line ends never get here (pbs_check); if they did they would be blanks. */
static void option (struct buf *out, const char *name, const char *value)
{
	struct buf b;

	if (!value || !*value)
		return;
	buf_init (&b, 65536);
	for (const char *p = value; *p; p++)
		buf_char (&b, (unsigned char) *p < ' ' || *p == 0x7f ? ' ' : *p);
	buf_printf (out, "#PBS %s ", name);
	provider_quote ((const char *) b.data, out);
	buf_char (out, '\n');
	buf_fini (&b);
}

static void select_option (const struct pbs_conf *c, unsigned nodes, struct buf *out)
{
	const char *more = c->select_options ? c->select_options : "";
	struct buf b;

	buf_init (&b, 4096);
	buf_printf (&b, "select=%u", nodes);
	if (c->cpus_per_node)
		buf_printf (&b, ":ncpus=%d", (int) c->cpus_per_node);
	more += *more == ':';
	if (*more)
		buf_printf (&b, ":%s", more);
	option (out, "-l", (const char *) b.data);
	buf_fini (&b);
}

static void pbs_header (const void *conf, const struct batch_job *j, struct buf *out)
{
	const struct pbs_conf *c = conf;
	int64_t s = c->batch.walltime_s;

	option (out, "-N", j->name);
	/* the script writes the log itself: PBS's own files come when the job is over, if they can be delivered. Not rerun: a block that is
	 * lost is replaced by a new one. No mail for each block that is released. */
	buf_str (out, "#PBS -S /bin/bash\n#PBS -o /dev/null\n#PBS -j oe\n#PBS -r n\n#PBS -m n\n");
	select_option (c, j->nodes, out);
	if (c->place && *c->place) {
		buf_str (out, "#PBS -l place=");
		provider_quote (c->place, out);
		buf_char (out, '\n');
	}
	buf_printf (out, "#PBS -l walltime=%02lld:%02d:%02d\n", (long long) (s / 3600), (int) (s % 3600 / 60), (int) (s % 60));
	option (out, "-q", c->queue);
	option (out, "-A", c->account);
}

static void pbs_submit (const void *conf, const struct batch_job *j, struct batch_args *a)
{
	(void) conf;
	batch_arg (a, "qsub");
	batch_arg (a, "-C");	/* PBS_DPREFIX in our environment would make other lines the directives */
	batch_arg (a, "#PBS");
	batch_arg (a, "%s", j->script);
}

/* "12.server", maybe after lines of a site's own hook. */
static int pbs_submitted (const char *out, char id[BATCH_ID_MAX])
{
	for (const char *p = out; *p; p += strcspn (p, "\n"), p += *p == '\n') {
		size_t n = strcspn (p, "\r\n"), digits = strspn (p, "0123456789");
		size_t name = p[digits] == '.' ? strspn (p + digits + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") : 0;
		if (digits && name && digits + 1 + name == n && n < BATCH_ID_MAX) {
			memcpy (id, p, n);
			id[n] = 0;
			return 0;
		}
	}
	return -1;
}

static void qstat (const char *const *ids, size_t n, bool finished, struct batch_args *a)
{
	batch_arg (a, "qstat");
	if (finished)
		batch_arg (a, "-x");
	batch_arg (a, "-f");
	batch_arg (a, "-F");
	batch_arg (a, "json");
	for (size_t i = 0; i < n; i++)
		batch_arg (a, "%s", ids[i]);
}

/* Without -x: where no history is kept, that option makes qstat tell of no job at all. */
static void pbs_status (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	(void) conf;
	if (n) {
		qstat (ids, n, false, a);
		return;
	}
	batch_arg (a, "qstat");		/* without ids it would tell of everybody's jobs: whether the server is there */
	batch_arg (a, "-B");
	batch_arg (a, "-f");
	batch_arg (a, "-F");
	batch_arg (a, "json");
}

static void pbs_history (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	(void) conf;
	qstat (ids, n, true, a);
}

/* qstat cannot be asked for a user's jobs in this form, and qselect knows no beginnings of names. */
static void pbs_search (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	static const char script[] =
		"set -f; found=$(qselect -u \"$0\") || exit; for i in $found; do case \" $* \" in *\" $i \"*) ;; *) set -- \"$@\" \"$i\" ;; esac; done;"
		" [ $# -eq 0 ] || exec qstat -f -F json \"$@\"";
	const struct passwd *pw = getpwuid (geteuid ());

	(void) conf;
	batch_arg (a, "sh");
	batch_arg (a, "-c");
	batch_arg (a, "%s", script);
	if (pw)
		batch_arg (a, "%s", pw->pw_name);
	else
		batch_arg (a, "%u", (unsigned) geteuid ());
	for (size_t i = 0; i < n; i++)
		batch_arg (a, "%s", ids[i]);
}

static void pbs_cancel (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	(void) conf;
	batch_arg (a, "qdel");
	for (size_t i = 0; i < n; i++)
		batch_arg (a, "%s", ids[i]);
}

/* pbsdsh numbers the lines of the node file, and a host may have several: the first of each. */
static void pbs_launch (const struct batch_job *j, const char *options, struct buf *out)
{
	struct buf b;

	buf_init (&b, 65536);
	buf_printf (&b, "pbsdsh -n \"$weft_host\" %s-- ", options);
	script_again (&b, j->script, 1);
	buf_str (&b, " \"$weft_end\"");
	script_each_host (out, "awk '!seen[$0]++ { print NR - 1 }' \"$PBS_NODEFILE\"", (const char *) b.data);
	buf_fini (&b);
}

/* job_state, with a word of pbs_qstat.c's own where that letter says too little. */
static const struct batch_word states[] = {
	{ "Q", BATCH_PENDING, "waits in the queue" },
	{ "Q never", BATCH_STUCK, "waits in the queue" },
	{ "H", BATCH_PENDING, "held" },
	{ "H system", BATCH_STUCK, "held by PBS" },
	{ "W", BATCH_PENDING, "waits for its time" },
	{ "T", BATCH_PENDING, "on its way to another queue or to its nodes" },
	{ "M", BATCH_STUCK, "moved to another server, where it is not followed" },
	{ "R", BATCH_RUNNING, "runs" },
	{ "B", BATCH_RUNNING, "an array of jobs has begun" },
	{ "S", BATCH_RUNNING, "suspended" },
	{ "U", BATCH_RUNNING, "suspended while somebody works at its node" },
	{ "E", BATCH_ENDING, "ends" },
	{ "X", BATCH_DONE, "its part of an array is over" },
	{ "F ended", BATCH_DONE, "its managers ended" },
	{ "F walltime", BATCH_DONE, "its wall time was over" },
	{ "F deleted", BATCH_FAILED, "somebody deleted it" },
	{ "F exit", BATCH_FAILED, "it failed" },
	{ "F signal", BATCH_FAILED, "a signal ended it" },
	{ "F node", BATCH_FAILED, "a node of it failed" },
	{ "F memory", BATCH_FAILED, "it used more memory than it has" },
	{ "F cpu", BATCH_FAILED, "it used more processor time than it has" },
	{ "F start", BATCH_FAILED, "PBS could not start it" },
	{ "", BATCH_UNKNOWN, "" }
};

static const char *const down[] = {
	"cannot connect to server", "couldn't connect to cluster", "connection refused", "connection timed out", "connection reset", "end of file",
	"unknown host", "server shutting down", "server is shutting down", "pbs_iff", "communication failure", "cannot run", "command not found",
	": not found", NULL
};
static const char *const no_jobs[] = { "unknown job id", "has finished", NULL };
static const char *const no_history[] = { "not configured to maintain job history", "job history", NULL };

static const struct batch_hint hints[] = {
	{ "cannot connect to server", "the PBS server is down, or not reached from here: check PBS_SERVER in /etc/pbs.conf, then qstat -B" },
	{ "unknown host", "the server named in provider.pbs.queue after the @, or in /etc/pbs.conf, has no address" },
	{ "unknown queue", "set provider.pbs.queue to one that qstat -Q lists" },
	{ "not enabled", "the queue takes no jobs now: qstat -Q; set provider.pbs.queue to another, or ask for qmgr -c 'set queue Q enabled=True'" },
	{ "not started", "its jobs will wait: set provider.pbs.queue to another, or ask for qmgr -c 'set queue Q started=True'" },
	{ "unauthorized request", "this account may not use the queue: see acl_users and acl_groups in qstat -Q -f" },
	{ "resource limits", "walltime, nodes_per_block or cpus_per_node are more than the queue allows: resources_max in qstat -Q -f" },
	{ "unknown resource", "look at provider.pbs.select_options and scheduler_options; pbsnodes -a shows what nodes have" },
	{ "illegal attribute or resource value", "look at provider.pbs.select_options, place and scheduler_options" },
	{ "invalid option", "this PBS prints no JSON: PBS Professional 14.1 or OpenPBS is needed (Torque is neither)" },
	{ "illegal -", "look at provider.pbs.scheduler_options" },
	{ NULL, NULL }
};

/* qsub has no dry run: what the queue says of itself. */
static void pbs_trial (const void *conf, const struct batch_job *j, struct batch_args *a)
{
	static const char script[] =
		"q=$0; [ -n \"$q\" ] || q=$(qstat -B -f | awk '$1 == \"default_queue\" { print $3 }'); s=$(qstat -Q -f \"$q\") || exit;"
		" case $s in *'enabled = False'*) echo \"queue $q is not enabled\"; exit 1 ;;"
		" *'started = False'*) echo \"queue $q is not started\"; exit 1 ;; esac;"
		" m=$(echo \"$s\" | awk '/resources_max|acl_users|acl_groups/ { printf \", %s %s\", $1, $3 }');"
		" d=$(pbsnodes -l 2>/dev/null | awk '{ printf \" %s\", $1 }'); echo \"queue $q is enabled and started$m${d:+; down or offline:$d}\"";
	const struct pbs_conf *c = conf;

	(void) j;
	batch_arg (a, "sh");
	batch_arg (a, "-c");
	batch_arg (a, "%s", script);
	batch_arg (a, "%s", c->queue ? c->queue : "");
}

const struct batch_system pbs_system = {
	.title = "PBS", .directive = "#PBS", .header = pbs_header, .submit = pbs_submit, .submitted = pbs_submitted,
	.status = pbs_status, .rows = pbs_rows, .search = pbs_search, .history = pbs_history, .history_rows = pbs_rows, .cancel = pbs_cancel,
	.states = states, .down = down, .none = no_jobs, .no_history = no_history,
	.trial = pbs_trial, .hints = hints, .script_logs = true, .launch = pbs_launch,
	.node = "$(hostname)", .hosts = "awk '!seen[$0]++' \"$PBS_NODEFILE\"",
};

static void *pbs_create (const struct provider_env *env, struct err *err)
{
	return batch_create (&pbs_system, env, err);
}

static void pbs_describe (const void *conf, const struct provider_block *b, struct buf *out)
{
	batch_describe (&pbs_system, conf, b, out);
}

static void pbs_doctor (const void *conf, const struct provider_block *b, struct buf *out)
{
	batch_doctor (&pbs_system, conf, b, out);
}

static int pbs_check (const void *conf, unsigned nodes, struct err *err)
{
	const struct pbs_conf *c = conf;
	const struct { const char *name, *value; } text[] = {
		{ "queue", c->queue }, { "account", c->account }, { "select_options", c->select_options }, { "place", c->place },
	};

	for (size_t i = 0; i < sizeof (text) / sizeof (text[0]); i++)
		if (batch_check_text ("pbs", text[i].name, text[i].value, false, err) < 0)
			return -1;
	if (c->select_options && strchr (c->select_options, '+'))
		return err_set (err, ERR_INVALID, FAULT_USER, "provider.pbs.select_options: all nodes of a block are alike: a + cannot stand there");
	return batch_check ("pbs", &c->batch, nodes, err);
}

const struct provider provider_pbs = {
	.name = "pbs", .help = "jobs of PBS Professional or OpenPBS", .keys = pbs_keys, .conf_bytes = sizeof (struct pbs_conf),
	.create = pbs_create, .destroy = batch_destroy, .submit = batch_submit, .poll = batch_poll, .walltime_s = batch_walltime_s, .cancel = batch_cancel,
	.record = batch_record, .adopt = batch_adopt, .leave = batch_leave, .job = batch_job_text, .trouble = batch_trouble,
	.check = pbs_check, .describe = pbs_describe, .doctor = pbs_doctor,
};
