/* SPDX-License-Identifier: Apache-2.0 */
/* See node.h. */
#include "endpoint/manager/containers/node.h"
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/xmem.h"

enum {
	NOBODY = 65534,
	ENGINE_BYTES = 96 << 20,	/* of the worker itself, above what its function may use */
	PIDS_MIN = 16, PIDS_MAX = 65536,
};

static int add_runtime (struct node *n, const char *name, struct err *err)
{
	const struct runtime *rt = runtime_find (name);

	if (!rt)
		return err_set (err, ERR_INVALID, FAULT_USER, "'%.40s' is no container runtime: %s", name, RUNTIME_NAMES);
	if (rt->host_network && !n->o->network)
		return err_set (err, ERR_INVALID, FAULT_USER, "%s cannot take the network away from functions: permit it "
				"(containers.allow_network) or do without %s", name, name);
	if (rt->maps_user && !rt->host_network && n->root)
		return err_set (err, ERR_INVALID, FAULT_USER, "%s runs containers as the user that starts them, and that is root here: run the endpoint as "
				"another user, or use another runtime", name);
	for (size_t i = 0; i < n->n; i++)
		if (n->runtimes[i] == rt)
			return err_set (err, ERR_INVALID, FAULT_USER, "container runtime '%s' stands there twice", name);
	if (n->n == NODE_RUNTIMES_MAX)
		return err_set (err, ERR_INVALID, FAULT_USER, "more than %d container runtimes", NODE_RUNTIMES_MAX);
	n->runtimes[n->n++] = rt;
	return 0;
}

unsigned node_controllers (const char *path)
{
	static const struct { const char *name; enum runtime_limit limit; } known[] = {
		{ "memory", LIMIT_MEMORY }, { "pids", LIMIT_PIDS }, { "cpu", LIMIT_CPU },
	};
	FILE *f = fopen (path, "re");
	unsigned limits = 0;
	char word[32];

	while (f && fscanf (f, "%31s", word) == 1)
		for (size_t i = 0; i < sizeof (known) / sizeof (known[0]); i++)
			if (strcmp (word, known[i].name) == 0)
				limits |= known[i].limit;
	if (f)
		fclose (f);
	return limits;
}

/* What systemd delegates to a user of control groups v2, whom the runtimes have it asked for over the user's own bus. Older than
 * version 252 it delegates no "cpu"; a job of a batch system has neither, though its environment may be that of a login. */
static unsigned limits_of_user (uid_t uid)
{
	char path[128];

	if (!getenv ("XDG_RUNTIME_DIR") || !getenv ("DBUS_SESSION_BUS_ADDRESS"))
		return 0;
	snprintf (path, sizeof (path), "/sys/fs/cgroup/user.slice/user-%u.slice/user@%u.service/cgroup.controllers", (unsigned) uid, (unsigned) uid);
	return node_controllers (path);
}

int node_init (struct node *n, const struct node_options *o, struct err *err)
{
	char *list = o->runtimes ? xstrdup (o->runtimes) : NULL, *save = NULL;
	int rc = 0;

	memset (n, 0, sizeof (*n));
	n->o = o;
	n->root = geteuid () == 0;
	n->cores = sysconf (_SC_NPROCESSORS_ONLN) > 0 ? (unsigned) sysconf (_SC_NPROCESSORS_ONLN) : 1;
	n->limits_user = limits_of_user (geteuid ());
	runtime_owner (n->owner);
	for (char *name = list ? strtok_r (list, ", ", &save) : NULL; name && rc == 0; name = strtok_r (NULL, ", ", &save))
		rc = add_runtime (n, name, err);
	free (list);
	if (rc == 0 && n->n && !o->bundle)
		rc = err_set (err, ERR_INVALID, FAULT_SITE, "containers need the worker's bundle: make bundle, or --bundle DIR");
	if (rc == 0 && n->n) {
		char *loader = xasprintf ("%s/ld.so", o->bundle);
		if (access (loader, X_OK) < 0)
			rc = err_errno (err, "the worker's bundle for containers: %s", loader);
		free (loader);
	}
	return rc;
}

/* A path that goes up matches patterns of directories that it is not in. */
static bool goes_up (const char *image)
{
	for (const char *p = image; (p = strstr (p, "..")); p += 2)
		if ((p == image || p[-1] == '/') && (p[2] == '/' || !p[2]))
			return true;
	return false;
}

static bool image_permitted (const struct node *n, const char *image)
{
	char *list, *save = NULL;
	bool ok = false;

	if (!n->o->images)
		return true;
	if (goes_up (image))
		return false;
	list = xstrdup (n->o->images);
	for (char *p = strtok_r (list, ", ", &save); p && !ok; p = strtok_r (NULL, ", ", &save))
		ok = fnmatch (p, image, 0) == 0;
	free (list);
	return ok;
}

/* Files and directories are for those that run them; names of registries for those that keep images. */
static bool fits (const struct runtime *rt, const char *image)
{
	bool path = image[0] == '/' || image[0] == '.' || strstr (image, "://");
	bool runs_paths = !rt->exists;

	return path == runs_paths;
}

static const struct runtime *choose (const struct node *n, const struct node_wish *w)
{
	for (size_t i = 0; i < n->n; i++)
		if (w->type && *w->type ? strcmp (n->runtimes[i]->name, w->type) == 0 : fits (n->runtimes[i], w->image))
			return n->runtimes[i];
	return w->type && *w->type ? NULL : n->runtimes[0];
}

static uint32_t bounded (uint64_t wish, int64_t otherwise, uint64_t most)
{
	uint64_t v = wish ? wish : (uint64_t) otherwise;

	return (uint32_t) (most && v > most ? most : v);
}

int node_choose (const struct node *n, const struct node_wish *w, const struct runtime **rt, struct container_spec *spec, struct err *err)
{
	if (!n->n)
		return err_set (err, ERR_TASK_RUNNER, FAULT_SITE, "the function wants the container %.200s, and this endpoint runs no containers",
				w->image);
	if (!runtime_image_ok (w->image, strlen (w->image)))
		return err_set (err, ERR_INVALID, FAULT_USER, "'%.200s' is no name of an image", w->image);
	if (!(*rt = choose (n, w)))
		return err_set (err, ERR_TASK_RUNNER, FAULT_SITE, "the function wants a container of type %.40s, and this endpoint has: %.100s",
				w->type, n->o->runtimes);
	if (!image_permitted (n, w->image))
		return err_set (err, ERR_FORBIDDEN, FAULT_USER, "image %.150s is not permitted on this endpoint (containers.images: %.150s)", w->image,
				n->o->images);
	if (w->network && !n->o->network)
		return err_set (err, ERR_FORBIDDEN, FAULT_USER, "the function asks for network, which this endpoint does not allow (containers.allow_network)");
	if (n->o->max_memory_bytes && w->memory_bytes > (uint64_t) n->o->max_memory_bytes)
		return err_set (err, ERR_LIMIT, FAULT_USER, "the function asks for %llu MiB of memory; this endpoint gives a container %lld at most",
				(unsigned long long) (w->memory_bytes >> 20), (long long) (n->o->max_memory_bytes >> 20));
	*spec = (struct container_spec) { .image = w->image, .network = w->network || (*rt)->host_network };
	spec->memory_bytes = w->memory_bytes ? w->memory_bytes : (uint64_t) n->o->memory_bytes;
	if (spec->memory_bytes)
		spec->memory_bytes += ENGINE_BYTES;
	spec->cpu_millis = bounded (w->cpu_millis, n->o->cpu_millis, n->cores * 1000ull);
	spec->pids = bounded (w->pids, n->o->pids, PIDS_MAX);
	if (spec->pids && spec->pids < PIDS_MIN)
		spec->pids = PIDS_MIN;	/* the engine itself has threads */
	return 0;
}

unsigned node_limits (const struct node *n, const struct runtime *rt)
{
	if (!rt->limits)
		return 0;
	return n->root || !rt->of_user ? LIMIT_ALL : n->limits_user;
}

void node_user (const struct node *n, const struct runtime *rt, uid_t *uid, gid_t *gid)
{
	(void) rt;
	*uid = n->root ? NOBODY : geteuid ();
	*gid = n->root ? NOBODY : getegid ();
}
