/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of batch.c share; nobody else includes it. */
#ifndef ENDPOINT_PROVIDERS_BATCH_INTERNAL_H
#define ENDPOINT_PROVIDERS_BATCH_INTERNAL_H
#include "endpoint/providers/batch.h"

enum {
	HOUR_MS = 3600 * 1000,
	SOON_MS = 300,			/* the next listing after a change of ours */
	IDS_MAX = 1000,			/* in one command */
};
enum phase { JOB_WAITING, JOB_SUBMITTING, JOB_UNSURE, JOB_THERE };

struct job {
	char block[16], name[BATCH_NAME_MAX], id[BATCH_ID_MAX], nodes[200], words[300];
	char *script;			/* its path */
	char *text;			/* of the script, until it is submitted */
	unsigned nnodes;
	enum phase phase;
	enum batch_state state;		/* as last listed; UNKNOWN: not yet */
	bool cancelled, ended, failed;
	bool seen;			/* in some listing */
	bool asked_for, listed;		/* in the present one */
	bool up, was_up;		/* a manager was connected at the last look; at any */
	unsigned absent;		/* good listings in a row that lack it */
	int64_t unknown_since_ms, cancel_sent_ms;
	struct job *next;
};

struct batch {
	const struct batch_system *s;
	struct provider_env env;
	const struct batch_conf *conf;
	bool swept;			/* scripts of earlier runs are gone */
	bool left;			/* the next run has the jobs */
	char prefix[100], run[8];	/* of job names: "weft-NAME-hhhh", and of this run */
	struct job *jobs;
	struct loop_timer *timer;
	struct call *submitting, *listing, *asking, *cancelling;
	int64_t list_at_ms, list_began_ms, search_at_ms;
	bool searching;			/* the present listing finds jobs by name */
	size_t list_from;		/* where the status command names jobs: the next one named, of those with an id */
	unsigned bad;			/* listings in a row without an answer */
	char trouble[400];
	bool no_history;
	int64_t *submits;		/* ring of times, conf->max_submits_per_hour long */
	size_t submits_at;
	char (*strays)[BATCH_ID_MAX];	/* ids of jobs of ours that nobody wants */
	size_t nstrays;
};

/* out: what it printed, may be changed; said: why it failed, in the scheduler's words. err: NULL, or why there is no status. */
typedef void call_f (struct batch *b, struct job *j, int status, char *out, const char *said, const struct err *err);

/* A command that runs. b: NULL when the provider is gone. */
struct call {
	struct batch *b;
	struct job *job;
	call_f *done;
	struct call **slot;
};

/* batch.c */
void batch_look (struct batch *b);			/* everything that is due */

/* batch_call.c. args: transferred. slot: where the call is until it is done. -1: it could not be started. */
int batch_run (struct batch *b, struct call **slot, struct job *j, struct batch_args *args, const char *input, call_f *done, struct err *err);
void batch_in_trouble (struct batch *b, const char *command, const char *said);
void batch_list_in (struct batch *b, int64_t ms);	/* a listing in so long, or earlier */

/* batch_jobs.c */
void batch_job_free (struct job *j);
struct job *batch_find_block (struct batch *b, const char *block);
void batch_tell (struct batch *b, struct job *j, enum provider_state state);
/* It is told, and forgotten, by batch_look: the lists are not changed under those who walk them. */
void batch_end (struct job *j, bool failed, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));
bool batch_forget_ended (struct batch *b);		/* one of them; false: none */
void batch_there (struct batch *b, struct job *j, const char *id);
void batch_fill_job (struct batch_job *bj, const struct provider_block *pb, const char *name, const char *script, char **log);
int64_t batch_submit_next (struct batch *b, int64_t now);	/* ms until something is due again; -1: nothing is */

/* batch_listing.c */
bool batch_connected (struct batch *b, const struct job *j);
void batch_start_listing (struct batch *b);

/* batch_cancel.c */
int64_t batch_cancel_some (struct batch *b, int64_t now);	/* as batch_submit_next */
void batch_cancel_rest (struct batch *b);		/* without waiting: the agent goes */

#endif
