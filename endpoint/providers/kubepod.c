/* SPDX-License-Identifier: Apache-2.0 */
/* See kubepod.h.
 *
 *     what stands in the status                               | state, complaint
 *     metadata.deletionTimestamp                              | leaving
 *     phase Failed, Succeeded                                 | dead; status.reason, else the container's
 *     a container waiting: ContainerCreating, PodInitializing | waiting
 *     a container waiting: CrashLoopBackOff                   | dead, bad; how it ended the last time as well
 *     a container waiting: any other reason                   | waiting, bad; hopeless where no retry can help
 *     a container terminated                                  | dead, bad
 *     PodScheduled False                                      | waiting, bad
 *     all containers running                                  | running */
#include "endpoint/providers/kubepod.h"
#include "endpoint/providers/kubeapi.h"

#include <stdio.h>
#include <string.h>

static bool is (const char *s, const char *const *list)
{
	for (; *list; list++)
		if (strcmp (s, *list) == 0)
			return true;
	return false;
}

static void copy (char *out, size_t cap, const char *s)
{
	size_t n = strlen (s);

	/* not in the middle of a character */
	if (n >= cap)
		for (n = cap - 1; n && ((unsigned char) s[n] & 0xc0) == 0x80; n--)
			;
	memcpy (out, s, n);
	out[n] = 0;
}

static void words (char out[400], const char *reason, const char *message)
{
	char all[1200];

	snprintf (all, sizeof (all), "%.200s%s%.900s", reason, *reason && *message ? ": " : "", message);
	copy (out, 400, all);
}

/* "OOMKilled, exit code 137" of a terminated state. */
static void how_it_ended (const json_t *t, char out[600])
{
	const char *reason = kubeapi_text (t, "reason"), *message = kubeapi_text (t, "message");
	long long code = (long long) json_integer_value (json_object_get (t, "exitCode"));
	long long signo = (long long) json_integer_value (json_object_get (t, "signal"));

	if (signo)
		snprintf (out, 600, "%.100s, signal %lld%s%.400s", *reason ? reason : "ended", signo, *message ? ": " : "", message);
	else
		snprintf (out, 600, "%.100s, exit code %lld%s%.400s", *reason ? reason : "ended", code, *message ? ": " : "", message);
}

/* Of an image that was not pulled: has its registry answered that there is none? In the words of Docker and CRI-O, and of containerd. One that
 * did not answer, or wants another secret, may do better later. */
static bool registry_has_none (const char *message)
{
	static const char nothing[] = ": not found";
	size_t n = strlen (message), k = sizeof (nothing) - 1;

	return strstr (message, "manifest unknown")
	       || (strstr (message, "failed to resolve reference") && n >= k && strcmp (message + n - k, nothing) == 0);
}

static void read_waiting (const json_t *c, const json_t *w, struct kubepod *out)
{
	static const char *const usual[] = { "", "ContainerCreating", "PodInitializing", NULL };
	static const char *const hopeless[] = { "InvalidImageName", "ErrImageNeverPull", NULL };
	static const char *const no_image[] = { "InvalidImageName", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "ImageInspectError",
						"RegistryUnavailable", NULL };
	const char *reason = kubeapi_text (w, "reason");
	const json_t *last = kubeapi_get (c, "lastState", "terminated", NULL);
	char ended[600], all[1400];

	out->state = KUBEPOD_WAITING;
	if (is (reason, usual))
		return;
	out->bad = true;
	out->hopeless = is (reason, hopeless) || (strcmp (reason, "ErrImagePull") == 0 && registry_has_none (kubeapi_text (w, "message")));
	out->no_image = is (reason, no_image);
	words (out->text, reason, kubeapi_text (w, "message"));
	if (strcmp (reason, "CrashLoopBackOff") == 0) {
		out->state = KUBEPOD_DEAD;
		if (json_is_object (last)) {
			how_it_ended (last, ended);
			snprintf (all, sizeof (all), "%s; the last time it ended with %s", out->text, ended);
			copy (out->text, sizeof (out->text), all);
		}
	}
}

/* One containerStatuses row. Returns whether it runs. */
static bool read_container (const json_t *c, struct kubepod *out)
{
	const json_t *w = kubeapi_get (c, "state", "waiting", NULL), *t = kubeapi_get (c, "state", "terminated", NULL);
	json_int_t n = json_integer_value (json_object_get (c, "restartCount"));
	char ended[600], all[800];

	if (n > 0 && n < 1000000)
		out->restarts += (long) n;
	if (out->bad)
		return false;
	if (json_is_object (t)) {
		how_it_ended (t, ended);
		snprintf (all, sizeof (all), "container %.63s ended: %s", kubeapi_text (c, "name"), ended);
		out->state = KUBEPOD_DEAD;
		out->bad = true;
		copy (out->text, sizeof (out->text), all);
	} else if (json_is_object (w)) {
		read_waiting (c, w, out);
	}
	if (out->bad)
		copy (out->container, sizeof (out->container), kubeapi_text (c, "name"));
	return json_is_object (kubeapi_get (c, "state", "running", NULL));
}

/* Init containers that have ended well are as they should be. */
static void read_init (const json_t *status, struct kubepod *out)
{
	const json_t *c;
	size_t i;

	json_array_foreach (json_object_get (status, "initContainerStatuses"), i, c) {
		const json_t *code = kubeapi_get (c, "state", "terminated", "exitCode", NULL);
		if (!(json_is_integer (code) && !json_integer_value (code)))
			read_container (c, out);
	}
}

static void read_scheduled (const json_t *status, struct kubepod *out)
{
	const json_t *c;
	size_t i;

	json_array_foreach (json_object_get (status, "conditions"), i, c)
		if (strcmp (kubeapi_text (c, "type"), "PodScheduled") == 0 && strcmp (kubeapi_text (c, "status"), "False") == 0) {
			out->bad = true;
			words (out->text, kubeapi_text (c, "reason"), kubeapi_text (c, "message"));
		}
}

static void read_status (const json_t *status, struct kubepod *out)
{
	const json_t *c, *list = json_object_get (status, "containerStatuses");
	const char *phase = kubeapi_text (status, "phase");
	size_t i, running = 0;

	read_init (status, out);
	out->no_image = false;
	json_array_foreach (list, i, c)
		running += read_container (c, out);
	if (strcmp (phase, "Failed") == 0 || strcmp (phase, "Succeeded") == 0) {
		out->state = KUBEPOD_DEAD;
		out->bad = true;
		if (*kubeapi_text (status, "reason"))	/* Evicted, DeadlineExceeded */
			words (out->text, kubeapi_text (status, "reason"), kubeapi_text (status, "message"));
		else if (!*out->text)
			words (out->text, phase, kubeapi_text (status, "message"));
	} else if (!out->bad && running && running == json_array_size (list)) {
		out->state = KUBEPOD_RUNNING;
	} else if (!out->bad) {
		read_scheduled (status, out);
	}
}

int kubepod_read (const json_t *pod, const char *label, struct kubepod *out)
{
	const json_t *meta = kubeapi_get (pod, "metadata", NULL);

	memset (out, 0, sizeof (*out));
	copy (out->name, sizeof (out->name), kubeapi_text (meta, "name"));
	copy (out->uid, sizeof (out->uid), kubeapi_text (meta, "uid"));
	copy (out->block, sizeof (out->block), kubeapi_text (json_object_get (meta, "labels"), label));
	if (!*out->name || !*out->uid)
		return -1;
	read_status (kubeapi_get (pod, "status", NULL), out);
	if (json_is_string (json_object_get (meta, "deletionTimestamp"))) {
		out->state = KUBEPOD_LEAVING;
		out->bad = out->hopeless = out->no_image = false;
	}
	return 0;
}

void kubepod_deployment (const json_t *d, char out[400])
{
	const json_t *c;
	size_t i;

	*out = 0;
	json_array_foreach (kubeapi_get (d, "status", "conditions", NULL), i, c)
		if (strcmp (kubeapi_text (c, "type"), "ReplicaFailure") == 0 && strcmp (kubeapi_text (c, "status"), "True") == 0)
			words (out, kubeapi_text (c, "reason"), kubeapi_text (c, "message"));
}
