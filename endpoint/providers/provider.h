/* SPDX-License-Identifier: Apache-2.0 */
/* A provider gets nodes from somewhere: this host, a batch system, a cluster. It starts blocks, each of n nodes, and runs one command
 * (weft-manager) on each node of a block. Adding one: a file here with a struct provider, declared and named (PROVIDER_CHOICES) below,
 * and a line in providers.c.
 *
 * No call may block: what talks to a scheduler uses spawn_capture, and answers later through on_block. */
#ifndef ENDPOINT_PROVIDERS_PROVIDER_H
#define ENDPOINT_PROVIDERS_PROVIDER_H
#include "common/buf.h"
#include "common/conf.h"
#include "common/loop.h"

enum provider_state {
	PROVIDER_PENDING = 1, PROVIDER_RUNNING, PROVIDER_ENDED,
	PROVIDER_NO_IMAGE,		/* ended, because nodes cannot get the image that the block is made for */
};

/* One block to start; borrowed during the call. argv has the command of each node, which differ in their last words. */
struct provider_block {
	const char *id;			/* "b7": file names and logs */
	unsigned nodes;
	const char *const *const *argv;	/* [node], NULL-terminated vectors */
	const char *log_dir;		/* <log_dir>/block-<id>-<node>.log takes stdout and stderr */
	const char *image;		/* of functions; what nodes run is in it. NULL = as configured; others only where the provider has `images` */
	const char *endpoint;		/* the endpoint's name */
	const char *identity;		/* its public key: names made from it are no other's */
};

/* What a block became; again with the same state when only the text is new. That it ended comes exactly once, also after cancel. text: for
 * people, the scheduler's own words where it has some; at the end why, "" when asked for. failed: it ended by itself, and that is no
 * ordinary end (a job's wall time is). May be called from inside submit and cancel. */
typedef void provider_f (const char *block_id, enum provider_state state, bool failed, const char *text, void *arg);

struct takeover_block;
struct provider_env {
	struct loop *loop;
	const void *conf;		/* the provider's own config struct; borrowed for life */
	provider_f *on_block;
	/* Is a manager of this block connected? A heartbeat says more than a scheduler's listing. May be NULL. */
	bool (*connected) (const char *block_id, void *arg);
	void *arg;
	const char *endpoint, *identity, *log_dir;	/* as in provider_block; borrowed for life */
};

struct provider {
	const char *name;		/* as in provider.type */
	const char *help;
	const struct conf_key *keys;	/* rows "provider.<name>.*"; offsets into its own struct; may be NULL */
	size_t conf_bytes;
	bool local;			/* its nodes are this host: ipc works */
	bool images;			/* a block may be made for an image that functions name */
	void *(*create) (const struct provider_env *env, struct err *err);
	void (*destroy) (void *self);	/* ends what still runs, at once, without on_block */
	int (*submit) (void *self, const struct provider_block *b, struct err *err);
	void (*poll) (void *self);	/* called each strategy period; may be NULL */
	void (*cancel) (void *self, const char *block_id, int64_t grace_ms);
	/* Optional, all three or none: jobs that outlive the agent. record: fills in the job and its name, false while it has none. adopt: right
	 * after create; a job of an earlier run is a block of this one. leave: nothing is cancelled from here on, not by destroy either. */
	bool (*record) (void *self, struct takeover_block *b);
	void (*adopt) (void *self, const struct takeover_block *b);
	void (*leave) (void *self);
	/* Optional. The scheduler's job of a block, for people ("Slurm job 123 on node1"); what is wrong with the scheduler, "" when nothing. */
	void (*job) (void *self, const char *block_id, struct buf *out);
	const char *(*trouble) (void *self);
	/* Optional: refuses what the table cannot; c: the provider's config struct. */
	int (*check) (const void *conf, unsigned nodes, struct err *err);
	/* Optional: how long a block is there, in seconds; 0 = for ever. */
	int64_t (*walltime_s) (const void *conf);
	/* Optional: the image that everything on its nodes runs in, by name; memoised results are of one image. NULL: the node's own system. */
	const char *(*image) (const void *conf);
	/* Optional: workers of a node, where workers_per_node does not say; 0 = not known either. */
	unsigned (*workers) (const void *conf);
	/* Optional, for `doctor`: what it needs of this host, one after the other; may block. Adds lines "level|check|text". */
	void (*doctor) (const void *conf, const struct provider_block *b, struct buf *out);
	/* What would be run or handed to the scheduler, as text. */
	void (*describe) (const void *conf, const struct provider_block *b, struct buf *out);
};

extern const struct provider provider_local, provider_dryrun, provider_slurm, provider_pbs, provider_htcondor, provider_kubernetes;
extern const struct provider *const providers[];	/* NULL-terminated; the order of provider.type's choices */
#define PROVIDER_CHOICES "local dryrun slurm pbs htcondor kubernetes"

bool provider_image_is_pinned (const char *image);	/* by its content: NAME@sha256:HEX */
void provider_quote (const char *word, struct buf *out);	/* as one word for a shell */
void provider_render_argv (const char *const *argv, struct buf *out);	/* quoted for a shell, one line */

#endif
