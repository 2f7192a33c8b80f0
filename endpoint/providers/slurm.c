/* SPDX-License-Identifier: Apache-2.0 */
/* Slurm: sbatch, squeue, scancel, and sacct where there is accounting. Written against 22.05 to 24.11; docs/providers/slurm.md. */
#include "common/xmem.h"
#include "endpoint/providers/batch.h"
#include "endpoint/providers/slurm.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(f) offsetof (struct slurm_conf, f)
#define TEXT(name, help) { "provider.slurm." #name, CONF_STRING, AT (name), NULL, 0, 1000, NULL, false, help }

static const struct conf_key slurm_keys[] = {
	BATCH_KEYS ("slurm", struct slurm_conf, "single", "single srun mpiexec ssh", "#SBATCH"),
	TEXT (partition, "Partition of the jobs; the cluster's default when not set."),
	TEXT (account, "Account that is charged."),
	TEXT (qos, "Quality of service."),
	TEXT (constraint, "Features that the nodes must have."),
	TEXT (clusters, "Cluster to submit to, in a federation; one name."),
	TEXT (reservation, "Reservation that the jobs use."),
	TEXT (gres, "Generic resources of each node, e.g. gpu:a100:2."),
	{ "provider.slurm.gpus_per_node", CONF_INT, AT (gpus_per_node), "0", 0, 1024, NULL, false, "GPUs of each node; 0 = none asked for." },
	{ "provider.slurm.cpus_per_node", CONF_INT, AT (cpus_per_node), "0", 0, 65536, NULL, false,
	  "Processors of each node; 0 = not said, which with exclusive is all of them." },
	{ "provider.slurm.mem_per_node", CONF_SIZE, AT (mem_per_node), "0", 0, 1LL << 50, NULL, false,
	  "Memory of each node; 0 = not said, which is the partition's default." },
	{ "provider.slurm.exclusive", CONF_BOOL, AT (exclusive), "true", 0, 0, NULL, false, "Whole nodes, not shared with jobs of others." },
	CONF_END
};

static void option (struct buf *out, const char *name, const char *value)
{
	if (value && *value)
		script_directive (out, "#SBATCH", name, value);
}

static void number (struct buf *out, const char *name, int64_t n, const char *unit)
{
	if (n > 0)
		buf_printf (out, "#SBATCH %s%lld%s\n", name, (long long) n, unit);
}

/* sbatch and srun have patterns of their own in file names. */
static void plain_name (struct buf *b, const char *name)
{
	buf_init (b, 65536);
	for (const char *p = name; *p; p++)
		buf_printf (b, *p == '%' ? "%%%%" : "%c", *p);
}

static void log_option (struct buf *out, const char *log)
{
	struct buf b;

	plain_name (&b, log);
	option (out, "--output=", (const char *) b.data);
	buf_fini (&b);
}

static void slurm_launch (const struct batch_job *j, const char *options, struct buf *out)
{
	char *log = xasprintf ("%s/block-%s-", j->log_dir, j->block);
	struct buf b;

	plain_name (&b, log);
	buf_str (&b, "%t.log");
	/* --overlap: tasks over several nodes start steps of their own beside this one, which would else wait for its end */
	buf_printf (out, "\texec srun --overlap --nodes=%u --ntasks=%u --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=1 --open-mode=append --output=",
		    j->nodes, j->nodes);
	provider_quote ((const char *) b.data, out);
	buf_printf (out, " %s", options);
	script_again (out, j->script, 1);
	buf_str (out, " \"$weft_end\"\n");
	buf_fini (&b);
	free (log);
}

static void slurm_header (const void *conf, const struct batch_job *j, struct buf *out)
{
	const struct slurm_conf *c = conf;

	option (out, "--job-name=", j->name);
	log_option (out, j->log);
	/* not requeued by Slurm: a block that is lost is replaced by a new one */
	buf_str (out, "#SBATCH --open-mode=append\n#SBATCH --no-requeue\n#SBATCH --time=");
	script_time (out, (c->batch.walltime_s + 59) / 60 * 60);
	buf_char (out, '\n');
	number (out, "--nodes=", j->nodes, "");
	buf_str (out, "#SBATCH --ntasks-per-node=1\n");
	number (out, "--cpus-per-task=", c->cpus_per_node, "");
	number (out, "--mem=", (c->mem_per_node + (1 << 20) - 1) >> 20, "M");
	number (out, "--gpus-per-node=", c->gpus_per_node, "");
	if (c->exclusive)
		buf_str (out, "#SBATCH --exclusive\n");
	option (out, "--partition=", c->partition);
	option (out, "--account=", c->account);
	option (out, "--qos=", c->qos);
	option (out, "--constraint=", c->constraint);
	option (out, "--clusters=", c->clusters);
	option (out, "--reservation=", c->reservation);
	option (out, "--gres=", c->gres);
}

static void slurm_submit (const void *conf, const struct batch_job *j, struct batch_args *a)
{
	(void) conf;
	batch_arg (a, "sbatch");
	batch_arg (a, "--parsable");
	batch_arg (a, "--job-name=%s", j->name);	/* here too: SBATCH_JOB_NAME in our environment would win over the script */
	batch_arg (a, "%s", j->script);
}

static void cluster (const struct slurm_conf *c, struct batch_args *a)
{
	if (c->clusters && *c->clusters)
		batch_arg (a, "--clusters=%s", c->clusters);
}

/* All jobs of this user: -j fails when it does not know any of them, and names find those whose id got lost. */
static void slurm_status (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	(void) ids;
	(void) n;
	batch_arg (a, "squeue");
	batch_arg (a, "--noheader");
	batch_arg (a, "--states=all");
	batch_arg (a, "--user=%u", (unsigned) geteuid ());
	batch_arg (a, "--format=%%A|%%j|%%T|%%N|%%r");
	cluster (conf, a);
}

static void slurm_history (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	struct buf list;

	buf_init (&list, 1 << 20);
	for (size_t i = 0; i < n; i++)
		buf_printf (&list, "%s%s", i ? "," : "", ids[i]);
	batch_arg (a, "sacct");
	batch_arg (a, "--noheader");
	batch_arg (a, "--allocations");
	batch_arg (a, "--parsable2");
	batch_arg (a, "--format=JobIDRaw,JobName%%%d,State,NodeList,ExitCode", BATCH_NAME_MAX);
	batch_arg (a, "--jobs=%s", (const char *) list.data);
	cluster (conf, a);
	buf_fini (&list);
}

static void slurm_cancel (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	batch_arg (a, "scancel");
	cluster (conf, a);
	for (size_t i = 0; i < n; i++)
		batch_arg (a, "%s", ids[i]);
}

static const struct batch_word states[] = {
	{ "PENDING", BATCH_PENDING, "waits in the queue" },
	{ "CONFIGURING", BATCH_PENDING, "its nodes are made ready" },
	{ "REQUEUED", BATCH_PENDING, "queued again" },
	{ "REQUEUE_HOLD", BATCH_PENDING, "held after it was queued again" },
	{ "REQUEUE_FED", BATCH_PENDING, "queued again by the federation" },
	{ "RESV_DEL_HOLD", BATCH_PENDING, "held: its reservation was deleted" },
	{ "SPECIAL_EXIT", BATCH_PENDING, "held with a special exit" },
	{ "RUNNING", BATCH_RUNNING, "runs" },
	{ "SUSPENDED", BATCH_RUNNING, "suspended" },
	{ "STOPPED", BATCH_RUNNING, "stopped" },
	{ "SIGNALING", BATCH_RUNNING, "is sent a signal" },
	{ "RESIZING", BATCH_RUNNING, "changes its size" },
	{ "STAGE_OUT", BATCH_ENDING, "its files are copied out" },
	{ "COMPLETING", BATCH_ENDING, "ends" },
	{ "COMPLETED", BATCH_DONE, "its managers ended" },
	{ "TIMEOUT", BATCH_DONE, "its wall time was over" },
	{ "PREEMPTED", BATCH_DONE, "jobs of higher priority took its nodes" },
	{ "POWER_UP_NODE", BATCH_PENDING, "its nodes are switched on" },
	{ "EXPEDITING", BATCH_PENDING, "queued again, to run at once" },
	{ "REVOKED", BATCH_DONE, "another cluster took it over" },
	{ "CANCELLED", BATCH_FAILED, "somebody cancelled it" },
	{ "FAILED", BATCH_FAILED, "it failed" },
	{ "NODE_FAIL", BATCH_FAILED, "a node of it failed" },
	{ "BOOT_FAIL", BATCH_FAILED, "a node did not boot" },
	{ "LAUNCH_FAILED", BATCH_FAILED, "it could not be launched" },
	{ "RECONFIG_FAIL", BATCH_FAILED, "a node could not be configured for it" },
	{ "OUT_OF_MEMORY", BATCH_FAILED, "it used more memory than it has" },
	{ "DEADLINE", BATCH_FAILED, "it could not start before its deadline" },
	{ "", BATCH_UNKNOWN, "" }
};

static const char *const down[] = {
	"unable to contact slurm controller", "socket timed out", "connection refused", "communication", "zero bytes were transmitted",
	"protocol authentication error", "authentication error", "munge", "transport", "temporarily unable to accept", "resource temporarily unavailable",
	"slurm backup controller in standby", "cannot stat file", "unable to process configuration file", "unable to establish configuration source",
	"problem talking to", "cannot run", NULL
};
static const char *const no_jobs[] = { "invalid job id specified", NULL };
static const char *const no_accounting[] = {
	"accounting storage is disabled", "not running a supported accounting_storage", "no such file or directory", "cannot run", NULL
};

static const struct batch_hint hints[] = {
	{ "munge", "munged does not serve this host: systemctl start munge, with the key of the cluster" },
	{ "unable to contact slurm controller", "slurmctld is down, or not reached from here: scontrol ping" },
	{ "socket timed out", "slurmctld answers too late: scontrol ping, sdiag" },
	{ "invalid partition", "set provider.slurm.partition to one that sinfo lists" },
	{ "invalid account", "set provider.slurm.account to one of: sacctmgr show associations user=$USER" },
	{ "invalid qos", "set provider.slurm.qos to one of: sacctmgr show associations user=$USER format=account,qos" },
	{ "invalid feature", "set provider.slurm.constraint to features that sinfo -o %f lists" },
	{ "generic resource", "set provider.slurm.gres to what sinfo -o %G lists" },
	{ "reservation", "set provider.slurm.reservation to one that scontrol show reservation lists" },
	{ "requested time limit", "provider.slurm.walltime is more than the partition allows: sinfo -o '%P %l'" },
	{ "node count", "scaling.nodes_per_block is more than the partition allows: scontrol show partition" },
	{ "node configuration is not available", "no node has cpus_per_node, mem_per_node or gres as set: sinfo -N -l" },
	{ "unrecognized option", "look at provider.slurm.scheduler_options" },
	{ "allocation failure", "Slurm would not start it: the words before say why" },
	{ NULL, NULL }
};

static void slurm_trial (const void *conf, const struct batch_job *j, struct batch_args *a)
{
	(void) conf;
	batch_arg (a, "sbatch");
	batch_arg (a, "--test-only");
	batch_arg (a, "--job-name=%s", j->name);
	batch_arg (a, "%s", j->script);
}

const struct batch_system slurm_system = {
	.title = "Slurm", .directive = "#SBATCH", .header = slurm_header, .submit = slurm_submit, .submitted = slurm_submitted,
	.status = slurm_status, .rows = slurm_rows, .history = slurm_history, .history_rows = slurm_history_rows, .cancel = slurm_cancel,
	.states = states, .down = down, .none = no_jobs, .no_history = no_accounting,
	.trial = slurm_trial, .hints = hints,
	.node = "${SLURMD_NODENAME:-$(hostname)}", .launch = slurm_launch, .hosts = "scontrol show hostnames \"$SLURM_JOB_NODELIST\"",
};

static void *slurm_create (const struct provider_env *env, struct err *err)
{
	return batch_create (&slurm_system, env, err);
}

static void slurm_describe (const void *conf, const struct provider_block *b, struct buf *out)
{
	batch_describe (&slurm_system, conf, b, out);
}

static void slurm_doctor (const void *conf, const struct provider_block *b, struct buf *out)
{
	batch_doctor (&slurm_system, conf, b, out);
}

static unsigned slurm_workers (const void *conf)
{
	return (unsigned) ((const struct slurm_conf *) conf)->cpus_per_node;
}

static int slurm_check (const void *conf, unsigned nodes, struct err *err)
{
	const struct slurm_conf *c = conf;
	const struct { const char *name, *value; } text[] = {
		{ "partition", c->partition }, { "account", c->account }, { "qos", c->qos }, { "constraint", c->constraint },
		{ "clusters", c->clusters }, { "reservation", c->reservation }, { "gres", c->gres },
	};

	for (size_t i = 0; i < sizeof (text) / sizeof (text[0]); i++)
		if (batch_check_text ("slurm", text[i].name, text[i].value, false, err) < 0)
			return -1;
	return batch_check ("slurm", &c->batch, nodes, err);
}

const struct provider provider_slurm = {
	.name = "slurm", .help = "jobs of a Slurm cluster", .keys = slurm_keys, .conf_bytes = sizeof (struct slurm_conf),
	.create = slurm_create, .destroy = batch_destroy, .submit = batch_submit, .poll = batch_poll, .walltime_s = batch_walltime_s, .cancel = batch_cancel,
	.record = batch_record, .adopt = batch_adopt, .leave = batch_leave, .job = batch_job_text, .trouble = batch_trouble,
	.check = slurm_check, .workers = slurm_workers, .describe = slurm_describe, .doctor = slurm_doctor,
};
