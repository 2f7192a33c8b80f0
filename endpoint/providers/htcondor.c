/* SPDX-License-Identifier: Apache-2.0 */
/* HTCondor: condor_submit, condor_q, condor_history, condor_rm. Written from its manual and sources (8.6 to 25); docs/providers/htcondor.md.
 *
 * The job script carries its submit description in lines that begin with #CONDOR, as other systems have their directives; the submit
 * command hands them to condor_submit. An idle job that has run before is removed: a block that is lost is replaced by a new one. */
#include "endpoint/providers/htcondor.h"

#include <jansson.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct htcondor_conf {
	struct batch_conf batch;
	char *requirements, *accounting_group;
	int64_t cpus_per_node, mem_per_node;
};

#define AT(f) offsetof (struct htcondor_conf, f)
#define SPARE_S 60	/* after the wall time, before HTCondor ends what has not ended */

static const struct conf_key htcondor_keys[] = {
	BATCH_KEYS ("htcondor", struct htcondor_conf, "single", "single", "#CONDOR"),
	{ "provider.htcondor.requirements", CONF_STRING, AT (requirements), NULL, 0, 4000, NULL, false,
	  "What machines must have, as a ClassAd expression, e.g. HasAVX2 && Machine != \"old1.example.org\"." },
	{ "provider.htcondor.accounting_group", CONF_STRING, AT (accounting_group), NULL, 0, 1000, NULL, false, "Group that is charged." },
	{ "provider.htcondor.cpus_per_node", CONF_INT, AT (cpus_per_node), "1", 1, 65536, NULL, false,
	  "Processors of a job; set workers_per_node too where jobs are not confined to them." },
	{ "provider.htcondor.mem_per_node", CONF_SIZE, AT (mem_per_node), "0", 0, 1LL << 50, NULL, false, "Memory of a job; 0 = the pool's default." },
	CONF_END
};

/* One line of the submit description; a dollar sign would begin a macro, unless raw is wanted. */
static void command (struct buf *out, const char *name, const char *value, bool raw)
{
	if (!value || !*value)
		return;
	buf_printf (out, "#CONDOR %s = ", name);
	for (const char *p = value; *p; p++) {
		if (*p == '$' && !raw)
			buf_str (out, "$(DOLLAR)");
		else
			buf_char (out, (unsigned char) *p < ' ' || *p == 0x7f ? ' ' : *p);
	}
	buf_char (out, '\n');
}

static void htcondor_header (const void *conf, const struct batch_job *j, struct buf *out)
{
	const struct htcondor_conf *c = conf;
	long long walltime = (long long) c->batch.walltime_s;

	command (out, "executable", j->script, false);
	command (out, "initialdir", j->log_dir, false);
	/* the script writes its log itself, on the file system that it and its machine must share anyway */
	buf_str (out, "#CONDOR universe = vanilla\n#CONDOR transfer_executable = false\n#CONDOR should_transfer_files = no\n"
		 "#CONDOR output = /dev/null\n#CONDOR error = /dev/null\n#CONDOR notification = never\n");
	buf_printf (out, "#CONDOR request_cpus = %d\n", (int) c->cpus_per_node);
	if (c->mem_per_node)
		buf_printf (out, "#CONDOR request_memory = %lld MB\n", (long long) ((c->mem_per_node + (1 << 20) - 1) >> 20));
	command (out, "requirements", c->requirements, true);
	command (out, "accounting_group", c->accounting_group, false);
	buf_printf (out, "#CONDOR +JobBatchName = \"%s\"\n#CONDOR +WeftJob = \"%s\"\n#CONDOR +WeftWalltime = %lld\n", j->name, j->name, walltime);
	buf_printf (out, "#CONDOR periodic_remove = (JobStatus == 2 && time() - EnteredCurrentStatus > %lld) || (JobStatus == 1 && NumJobStarts > 0)\n",
		    walltime + SPARE_S);
}

#define DESCRIPTION "{ sed -n -e '/^# Block /q' -e 's/^#CONDOR //p' \"$0\"; echo queue; } | condor_submit -terse"

static void htcondor_submit (const void *conf, const struct batch_job *j, struct batch_args *a)
{
	(void) conf;
	batch_arg (a, "sh");
	batch_arg (a, "-c");
	batch_arg (a, "%s", DESCRIPTION);
	batch_arg (a, "%s", j->script);
}

static void htcondor_trial (const void *conf, const struct batch_job *j, struct batch_args *a)
{
	(void) conf;
	batch_arg (a, "sh");
	batch_arg (a, "-c");
	batch_arg (a, "%s", DESCRIPTION " -dry-run /dev/null");
	batch_arg (a, "%s", j->script);
}

/* "12.0 - 12.0": the cluster, which has one job. */
static int htcondor_submitted (const char *out, char id[BATCH_ID_MAX])
{
	for (const char *p = out; *p; p += strcspn (p, "\n"), p += *p == '\n') {
		size_t n = strspn (p, "0123456789"), proc = p[n] == '.' ? strspn (p + n + 1, "0123456789") : 0;
		if (n && n < 20 && proc && strncmp (p + n + 1 + proc, " - ", 3) == 0) {
			memcpy (id, p, n);
			id[n] = 0;
			return 0;
		}
	}
	return -1;
}

static const char attributes[] = "ClusterId,WeftJob,WeftWalltime,JobStatus,RemoteHost,LastRemoteHost,HoldReason,HoldReasonCode,RemoveReason,ExitCode,"
				 "ExitBySignal,ExitSignal,RemoteWallClockTime";

/* All jobs of ours, whose names tell which they are: a queue superuser would see those of others. */
static void htcondor_status (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	const struct passwd *pw = getpwuid (geteuid ());

	(void) conf;
	(void) ids;
	(void) n;
	batch_arg (a, "condor_q");
	batch_arg (a, "-json");
	batch_arg (a, "-attributes");
	batch_arg (a, "%s", attributes);
	batch_arg (a, "-constraint");
	if (pw)
		batch_arg (a, "WeftJob =!= undefined && Owner == \"%s\"", pw->pw_name);
	else
		batch_arg (a, "WeftJob =!= undefined");
}

static void htcondor_history (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	(void) conf;
	batch_arg (a, "condor_history");
	batch_arg (a, "-json");
	batch_arg (a, "-attributes");
	batch_arg (a, "%s", attributes);
	batch_arg (a, "-limit");
	batch_arg (a, "%zu", n);	/* newest first: it ends once it has them */
	for (size_t i = 0; i < n; i++)
		batch_arg (a, "%s", ids[i]);
}

static void htcondor_cancel (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	(void) conf;
	batch_arg (a, "condor_rm");
	for (size_t i = 0; i < n; i++)
		batch_arg (a, "%s", ids[i]);
}

static const char *text (const json_t *ad, const char *name)
{
	const char *s = json_string_value (json_object_get (ad, name));

	return s ? s : "";
}

static double number (const json_t *ad, const char *name)
{
	return json_number_value (json_object_get (ad, name));
}

/* JobStatus 3 and 4, in the queue or in the history; why: more than the word says. */
static const char *how_it_ended (const json_t *ad, char why[64])
{
	if (number (ad, "JobStatus") == 3) {
		if (!strstr (text (ad, "RemoveReason"), "PeriodicRemove"))
			return *text (ad, "RemoveReason") ? "removed" : "removing";
		return number (ad, "RemoteWallClockTime") + SPARE_S >= number (ad, "WeftWalltime") ? "wall time" : "evicted";
	}
	if (json_is_true (json_object_get (ad, "ExitBySignal"))) {
		snprintf (why, 64, "signal %d", (int) json_integer_value (json_object_get (ad, "ExitSignal")));
		return "killed";
	}
	if (number (ad, "ExitCode") == 0)
		return "completed";
	snprintf (why, 64, "exit status %d", (int) json_integer_value (json_object_get (ad, "ExitCode")));
	return "failed";
}

static void take_ad (const json_t *ad, batch_row_f *cb, void *arg)
{
	static const char *const live[] = { "", "idle", "running", "", "", "held", "output", "suspended" };
	char id[32], other[32], why[64] = "";
	double status = number (ad, "JobStatus");
	const char *host = text (ad, "RemoteHost"), *at, *state = other, *reason = why;

	snprintf (id, sizeof (id), "%lld", (long long) json_integer_value (json_object_get (ad, "ClusterId")));
	snprintf (other, sizeof (other), "JobStatus %.0f", status);
	if (status == 3 || status == 4)
		state = how_it_ended (ad, why);
	else if (status >= 1 && status <= 7)
		state = live[(int) status];
	if (status == 5)
		state = number (ad, "HoldReasonCode") == 1 ? "held by hand" : "held";
	if (status == 5)
		reason = text (ad, "HoldReason");
	else if (status == 3)
		reason = text (ad, "RemoveReason");
	if (!*host)
		host = text (ad, "LastRemoteHost");
	at = strchr (host, '@');	/* "slot1_1@node1.example.org" */
	cb (&(struct batch_row) { .id = id, .name = text (ad, "WeftJob"), .state = state, .nodes = at ? at + 1 : host, .reason = reason }, arg);
}

/* An array of ads; nothing at all when there are none. */
int htcondor_rows (char *out, batch_row_f *cb, void *arg)
{
	json_t *list, *ad;
	size_t i;

	if (!out[strspn (out, " \t\r\n")])
		return 0;
	list = json_loads (out, 0, NULL);	/* json_is_array evaluates its argument twice */
	if (!json_is_array (list)) {
		json_decref (list);
		return -1;
	}
	json_array_foreach (list, i, ad)
		if (json_is_integer (json_object_get (ad, "ClusterId")))
			take_ad (ad, cb, arg);
	json_decref (list);
	return 0;
}

static const struct batch_word states[] = {
	{ "idle", BATCH_PENDING, "waits for a machine" },
	{ "held by hand", BATCH_PENDING, "held" },
	{ "held", BATCH_STUCK, "held by HTCondor" },
	{ "running", BATCH_RUNNING, "runs" },
	{ "suspended", BATCH_RUNNING, "suspended" },
	{ "output", BATCH_ENDING, "its files are copied out" },
	{ "removing", BATCH_ENDING, "is being removed" },
	{ "completed", BATCH_DONE, "its managers ended" },
	{ "wall time", BATCH_DONE, "its wall time was over" },
	{ "evicted", BATCH_DONE, "its machine was taken away, or failed" },
	{ "removed", BATCH_FAILED, "somebody removed it" },
	{ "killed", BATCH_FAILED, "a signal ended it" },
	{ "failed", BATCH_FAILED, "it failed" },
	{ "", BATCH_UNKNOWN, "" }
};

static const char *const down[] = {
	"can't find address", "failed to connect", "failed to fetch ads", "can't contact", "couldn't contact", "failed to commit job submission", "cedar:",
	"secman:", "connection refused", "timed out", "cannot run", ": not found", NULL
};
static const char *const no_jobs[] = { "couldn't find", "not found", NULL };
static const char *const no_history[] = { "no history file", "history file is not defined", NULL };

static const struct batch_hint hints[] = {
	{ "can't find address", "condor_schedd does not run on this host, or CONDOR_CONFIG names another pool: condor_status -schedd" },
	{ "failed to connect", "condor_schedd does not answer: condor_ping -type schedd, or is it being restarted?" },
	{ "authentication", "this account is not let in: condor_ping -type schedd WRITE" },
	{ "accounting_group", "set provider.htcondor.accounting_group to one that the pool knows" },
	{ "requirements", "look at provider.htcondor.requirements: it must be a ClassAd expression" },
	{ "parse", "look at provider.htcondor.requirements and scheduler_options" },
	{ "executable", "the endpoint's directory must be on a file system that the machines share" },
	{ NULL, NULL }
};

const struct batch_system htcondor_system = {
	.title = "HTCondor", .directive = "#CONDOR", .header = htcondor_header, .submit = htcondor_submit, .submitted = htcondor_submitted,
	.status = htcondor_status, .rows = htcondor_rows, .history = htcondor_history, .history_rows = htcondor_rows, .cancel = htcondor_cancel,
	.states = states, .down = down, .none = no_jobs, .no_history = no_history, .trial = htcondor_trial, .hints = hints, .script_logs = true,
	.node = "$(hostname)",
};

static void *htcondor_create (const struct provider_env *env, struct err *err)
{
	return batch_create (&htcondor_system, env, err);
}

static void htcondor_describe (const void *conf, const struct provider_block *b, struct buf *out)
{
	batch_describe (&htcondor_system, conf, b, out);
}

static void htcondor_doctor (const void *conf, const struct provider_block *b, struct buf *out)
{
	batch_doctor (&htcondor_system, conf, b, out);
}

static int htcondor_check (const void *conf, unsigned nodes, struct err *err)
{
	const struct htcondor_conf *c = conf;
	const struct { const char *name, *value; } texts[] = { { "requirements", c->requirements }, { "accounting_group", c->accounting_group } };

	if (nodes > 1)
		return err_set (err, ERR_INVALID, FAULT_USER, "scaling.nodes_per_block: a job of HTCondor has one node");
	for (size_t i = 0; i < sizeof (texts) / sizeof (texts[0]); i++) {
		if (batch_check_text ("htcondor", texts[i].name, texts[i].value, false, err) < 0)
			return -1;
		if (texts[i].value && *texts[i].value && texts[i].value[strlen (texts[i].value) - 1] == '\\')
			return err_set (err, ERR_INVALID, FAULT_USER, "provider.htcondor.%s: a backslash at the end cannot stand there", texts[i].name);
	}
	return batch_check ("htcondor", &c->batch, nodes, err);
}

const struct provider provider_htcondor = {
	.name = "htcondor", .help = "jobs of an HTCondor pool", .keys = htcondor_keys, .conf_bytes = sizeof (struct htcondor_conf),
	.create = htcondor_create, .destroy = batch_destroy, .submit = batch_submit, .poll = batch_poll, .walltime_s = batch_walltime_s, .cancel = batch_cancel,
	.record = batch_record, .adopt = batch_adopt, .leave = batch_leave, .job = batch_job_text, .trouble = batch_trouble,
	.check = htcondor_check, .describe = htcondor_describe, .doctor = htcondor_doctor,
};
