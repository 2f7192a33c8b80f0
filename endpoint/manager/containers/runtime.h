/* SPDX-License-Identifier: Apache-2.0 */
/* A container runtime is a command line tool. What is here only makes command lines: pure text, so that each can be shown, tested and
 * compared without running anything. Who runs them: workers_container.c (a container is the foreground process of `run`).
 *
 * Sandbox: every runtime gives the function no new privileges, no capabilities, a read-only root with one private writable work
 * directory, and no network unless asked for and allowed. Memory, process and CPU limits where it has any (limits). What it cannot do
 * is said in its fields and in docs/containers/.
 *
 * Adding one: a file here, its declaration below, a row in runtimes.c, a page in docs/containers/. */
#ifndef MANAGER_CONTAINERS_RUNTIME_H
#define MANAGER_CONTAINERS_RUNTIME_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/err.h"

enum { RUNTIME_ARGS = 96, RUNTIME_IMAGE_MAX = 4096 };
enum runtime_limit { LIMIT_MEMORY = 1, LIMIT_PIDS = 2, LIMIT_CPU = 4, LIMIT_ALL = 7 };

/* A command line being made; add only, values are copied. */
struct args { char *v[RUNTIME_ARGS + 1]; size_t n; };
void args_add (struct args *a, const char *word);
void args_addf (struct args *a, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));
void args_fini (struct args *a);

/* What a function asks for, within the bounds of the node. */
struct container_spec {
	const char *image;		/* checked with runtime_image_ok; in `run` of one that runs_ids what `exists` printed of it */
	bool network;
	uint32_t cpu_millis, pids;	/* 0 = no limit */
	uint64_t memory_bytes;		/* 0 = no limit */
};

/* Where it runs; all paths are the host's, absolute. Borrowed during a call. */
struct container_place {
	const char *name;		/* "weft-<id>", unlike any other */
	const char *reference;		/* the image as the function names it, for people */
	const char *endpoint;		/* labels by which what a dead manager left is found */
	const char *owner;		/* "<pid>.<start time>" of the manager */
	const char *bundle;		/* packaging/bundle, mounted read-only at <base>/bin */
	const char *run_dir;		/* holds the socket of the manager, at <base>/run */
	const char *work_dir;		/* private and writable, at <base>/work */
	const char *files_dir;		/* files of tasks, mounted read-only where the runtime can, at <base>/files; NULL = none */
	const char *network;		/* name of the network to use when the spec asks for it */
	uid_t uid;			/* who it is inside; never 0 unless the runtime maps it away */
	gid_t gid;
	bool root;			/* the manager runs as root */
	unsigned limits;		/* of enum runtime_limit: what the node can limit for this user */
	const char *const *command;	/* of the worker, its paths below <base>; NULL-terminated */
};

struct runtime {
	const char *name;		/* as in containers.runtimes and in a function's registration */
	const char *program;
	const char *help;
	const char *base;		/* directory inside the image for our mounts */
	bool stays;			/* a container outlives the process that started it: `remove` and `list` are there */
	bool monitored;			/* a process below us removes it at its end, and dies when we do: that has to be made sure of */
	bool host_network;		/* cannot take the network away */
	bool limits;			/* can limit memory, processes, CPU (with place->limits) */
	bool of_user;			/* limits are those that a user may set, unless we are root: each one refused fails the start */
	bool runs_ids;			/* `run` takes what `exists` printed: no tag can be moved in between */
	bool maps_user;			/* whoever it is inside is us outside: the work directory stays ours */
	void (*run) (struct args *a, const struct container_spec *s, const struct container_place *p);
	/* exit status 0: the image is here, and it is the one whose digest is printed. NULL: a path; `run` finds out */
	void (*exists) (struct args *a, const char *image);
	void (*pull) (struct args *a, const char *image);	/* NULL: it cannot */
	void (*remove) (struct args *a, const char *name);
	void (*list) (struct args *a, const char *endpoint);	/* prints "name owner", a line each */
};

extern const struct runtime *const runtimes[];			/* NULL-terminated, in order of preference */
#define RUNTIME_NAMES "docker, podman, apptainer, singularity, charliecloud, shifter"
const struct runtime *runtime_find (const char *name);		/* NULL: unknown */
/* A reference that no tool takes for an option, and no path for another one: printable, no spaces, begins with a letter, digit, / or . */
bool runtime_image_ok (const char *image, size_t n);
/* s with those limits alone that the node can hold. */
struct container_spec runtime_held (const struct container_spec *s, const struct container_place *p);
/* What the tool said last that was not empty, without "Error:" prefixes and the like, for people. out has `room` bytes; returns it. */
char *runtime_words (const char *text, size_t n, char *out, size_t room);
bool runtime_alive (const char *owner);				/* is the manager of this owner label running on this host? */
void runtime_owner (char out[64]);				/* the label of this process */

/* oci.c: what docker and podman have in common. extra: NULL-terminated words after those that both know. */
void oci_run (struct args *a, const char *program, const struct container_spec *s, const struct container_place *p, const char *const *extra);
void oci_image (struct args *a, const char *program, const char *verb, const char *image);
void oci_remove (struct args *a, const char *program, const char *name);
void oci_list (struct args *a, const char *program, const char *label, const char *endpoint);	/* label: how its templates look one up */

#endif
