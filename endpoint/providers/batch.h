/* SPDX-License-Identifier: Apache-2.0 */
/* What providers for batch systems share. A block is a job: a script is written, handed to the submit command, watched with one batched
 * status command for all jobs, and cancelled. A batch system is a struct batch_system: words to run and small parsers of what they say
 * (slurm.c is the example). Everything else, the same for all of them, is in batch*.c (jobs) and script.c (the script).
 *
 *     phase      | entered when                                  | left when
 *     WAITING    | submit                                        | its turn: budget, scheduler answers -> SUBMITTING
 *     SUBMITTING | the submit command runs                       | job id -> THERE; refused -> ended; no clear answer -> UNSURE
 *     UNSURE     | the scheduler may have taken it all the same  | a listing has its name -> THERE; two have not -> WAITING
 *     THERE      | it has an id                                  | ended, or no longer known (see below) -> ended
 *
 * Jobs carry names that no other endpoint, and no other run of this one, uses. What a listing shows of ours beyond what we have in hand
 * (one that this run did not take over, one taken twice) is cancelled: no job is ever left behind.
 * A job that is missing from a good listing is looked up in the scheduler's history, else it counts as ended once three listings lack it and none of its
 * managers is connected. A scheduler that does not answer changes nothing: what runs is used. */
#ifndef ENDPOINT_PROVIDERS_BATCH_H
#define ENDPOINT_PROVIDERS_BATCH_H
#include "endpoint/providers/provider.h"

/* The first member of the config struct of each provider for a batch system, and its rows. */
struct batch_conf {
	int64_t walltime_s, launcher;		/* enum batch_launcher */
	int64_t cmd_timeout_ms, poll_ms, unknown_ms, max_submits_per_hour;
	char *worker_init, *scheduler_options, *launcher_options;
};
/* OWN: the scheduler's. A system's choices begin with these, in this order. */
enum batch_launcher { LAUNCH_SINGLE, LAUNCH_OWN, LAUNCH_MPIEXEC, LAUNCH_SSH };

#define BATCH_KEYS(P, S, LAUNCHER, LAUNCHERS, DIRECTIVE) \
	{ "provider." P ".walltime", CONF_WALLTIME_S, offsetof (S, batch.walltime_s), "30m", 60, 366 * 86400, NULL, false, \
	  "Time of a job: 30m, 2h, 01:30:00, 1-12:00:00. Before it is over, a node takes no more tasks and what it has not begun goes elsewhere." }, \
	{ "provider." P ".launcher", CONF_ENUM, offsetof (S, batch.launcher), LAUNCHER, 0, 0, LAUNCHERS, false, \
	  "How weft-manager is started on the nodes of a job: single on one node; else, where it is a choice, by the scheduler's own " \
	  "command, mpiexec, or ssh from the first node." }, \
	{ "provider." P ".launcher_options", CONF_STRING, offsetof (S, batch.launcher_options), NULL, 0, 4000, NULL, false, \
	  "Words added to the launcher's command line, as a shell reads them." }, \
	{ "provider." P ".worker_init", CONF_STRING, offsetof (S, batch.worker_init), NULL, 0, 65536, NULL, false, \
	  "Shell commands that each node runs before its manager: module load, conda activate." }, \
	{ "provider." P ".scheduler_options", CONF_STRING, offsetof (S, batch.scheduler_options), NULL, 0, 65536, NULL, false, \
	  "Further lines for the top of the job script; those without a # get " DIRECTIVE " in front." }, \
	{ "provider." P ".cmd_timeout", CONF_DURATION_MS, offsetof (S, batch.cmd_timeout_ms), "30s", 100, 600000, NULL, false, \
	  "A scheduler command that has not ended by then is killed." }, \
	{ "provider." P ".poll_interval", CONF_DURATION_MS, offsetof (S, batch.poll_ms), "10s", 100, 600000, NULL, false, \
	  "How often the scheduler is asked for the states of all jobs, in one command; less often while it is slow or down." }, \
	{ "provider." P ".unknown_timeout", CONF_DURATION_MS, offsetof (S, batch.unknown_ms), "5m", 1000, 86400000, NULL, false, \
	  "A job that nobody understands, or that will not run by itself, and without a connected manager, is cancelled after this long." }, \
	{ "provider." P ".max_submits_per_hour", CONF_INT, offsetof (S, batch.max_submits_per_hour), "100", 1, 100000, NULL, false, \
	  "Jobs handed to the scheduler in an hour at most; further blocks wait." }

enum { BATCH_ID_MAX = 96, BATCH_NAME_MAX = 128, BATCH_ARGS_MAX = 1100, BATCH_OUTPUT_MAX = 16 << 20 };

/* One job, for those who write its script. All borrowed. */
struct batch_job {
	const char *name;		/* [A-Za-z0-9._-] */
	const char *block;
	const char *endpoint;		/* the endpoint's name */
	const char *script;		/* path of the script, which the nodes see too */
	const char *log_dir, *log;	/* log: of the job's own output */
	unsigned nodes;
	const char *const *argv;	/* the command of each node */
};

struct batch_args { char *v[BATCH_ARGS_MAX + 1]; size_t n; };
void batch_arg (struct batch_args *a, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));

/* STUCK: it will not go on by itself; given up after unknown_timeout, like a state that is in no table. */
enum batch_state { BATCH_UNKNOWN, BATCH_PENDING, BATCH_STUCK, BATCH_RUNNING, BATCH_ENDING, BATCH_DONE, BATCH_FAILED };

/* A job as the scheduler lists it; "" where it says nothing. Borrowed during the call. */
struct batch_row { const char *id, *name, *state, *nodes, *reason; };
typedef void batch_row_f (const struct batch_row *row, void *arg);

struct batch_system {
	const char *title;		/* "Slurm", for people */
	const char *directive;		/* "#SBATCH" */
	/* The directives of a job, whole lines. */
	void (*header) (const void *conf, const struct batch_job *j, struct buf *out);
	/* The submit command; its standard input is the script when on_stdin is set. */
	void (*submit) (const void *conf, const struct batch_job *j, struct batch_args *a);
	bool on_stdin;
	int (*submitted) (const char *out, char id[BATCH_ID_MAX]);		/* 0, or -1: that is no job id */
	/* One command for all jobs. ids: those known (n may be 0); it may list more than these. */
	void (*status) (const void *conf, const char *const *ids, size_t n, struct batch_args *a);
	int (*rows) (char *out, batch_row_f *cb, void *arg);			/* out may be changed; -1: garbage */
	/* In its place where `status` lists no more than the ids: finds jobs of ours by their names as well. Run at the start, after an answer
	 * that got lost, and now and then. NULL where `status` does. */
	void (*search) (const void *conf, const char *const *ids, size_t n, struct batch_args *a);
	/* Ended jobs that `status` does not list; NULL where there is no such command. */
	void (*history) (const void *conf, const char *const *ids, size_t n, struct batch_args *a);
	int (*history_rows) (char *out, batch_row_f *cb, void *arg);
	void (*cancel) (const void *conf, const char *const *ids, size_t n, struct batch_args *a);
	/* The states that the scheduler knows, "" at the end. The longest word that the scheduler's begins with counts. */
	const struct batch_word { const char *word; enum batch_state state; const char *text; } *states;
	/* Parts of what commands say, NULL at the end: the scheduler is not there · it knows none of the jobs · there is no history. */
	const char *const *down, *const *none, *const *no_history;
	/* A submission that the scheduler only judges; NULL where there is none. For `doctor`. */
	void (*trial) (const void *conf, const struct batch_job *j, struct batch_args *a);
	/* What to do when a command says this, NULL at the end; the first that fits. */
	const struct batch_hint { const char *said, *advice; } *hints;
	const char *node;		/* shell words on a node: its name */
	const char *hosts;		/* shell command in the job: its nodes, one a line; NULL without mpiexec and ssh */
	/* LAUNCH_OWN: shell lines that run script_again on each node and then exit. options: launcher_options, "" or with a blank at its end. */
	void (*launch) (const struct batch_job *j, const char *options, struct buf *out);
	bool script_logs;		/* the script writes the log itself: the scheduler's own comes when the job is over */
};

/* Members of struct provider, ready to use; create and describe need to know which system. */
void *batch_create (const struct batch_system *s, const struct provider_env *env, struct err *err);
void batch_destroy (void *self);
int batch_submit (void *self, const struct provider_block *b, struct err *err);
void batch_poll (void *self);
void batch_cancel (void *self, const char *block_id, int64_t grace_ms);
bool batch_record (void *self, struct takeover_block *b);
void batch_adopt (void *self, const struct takeover_block *b);
void batch_leave (void *self);
void batch_job_text (void *self, const char *block_id, struct buf *out);
const char *batch_trouble (void *self);
int64_t batch_walltime_s (const void *conf);
void batch_describe (const struct batch_system *s, const void *conf, const struct provider_block *b, struct buf *out);
void batch_doctor (const struct batch_system *s, const void *conf, const struct provider_block *b, struct buf *out);	/* batch_doctor.c */
void batch_args_free (struct batch_args *a);
const char *batch_advice (const struct batch_system *s, const char *said);	/* NULL: none */
/* What no script can hold: control characters in the strings of this struct; nodes without a launcher. */
int batch_check (const char *key, const struct batch_conf *c, unsigned nodes, struct err *err);
int batch_check_text (const char *key, const char *name, const char *value, bool lines, struct err *err);
const struct batch_word *batch_find_word (const struct batch_system *s, const char *word);	/* NULL: not known */
bool batch_says (const char *text, const char *const *parts);

/* script.c */
void script_render (const struct batch_system *s, const void *conf, const struct batch_job *j, struct buf *out);
void script_directive (struct buf *out, const char *directive, const char *option, const char *value);	/* "#X --option=value", quoted */
void script_time (struct buf *out, int64_t seconds);	/* D-HH:MM:SS, or HH:MM:SS under a day */
void script_again (struct buf *out, const char *script, int times);	/* "/bin/bash SCRIPT node", for as many shells; END is to follow */
void script_each_host (struct buf *out, const char *hosts, const char *command);	/* $weft_host: a word of `hosts`; the first that ends ends all */

#endif
