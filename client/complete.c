/* SPDX-License-Identifier: Apache-2.0 */
#include "client/complete.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/names.h"
#include "client/profile.h"

#define LIMIT_S 1

static void too_late (int sig)
{
	(void)sig;
	_exit (0);
}

/* Others give functions and endpoints their names, and the shell expands what it is offered: only names that mean nothing to it. */
static void offer (const char *name)
{
	if (name && *name && *name != '-' &&
	    !name[strspn (name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+@%/-")])
		puts (name);
}

static void offer_all (json_t *names)
{
	const char *id;
	json_t *name;
	json_object_foreach (names, id, name)
		offer (json_string_value (name));
}

static void profiles (void)
{
	size_t n;
	char **names = profile_list (&n);
	for (size_t i = 0; i < n; i++) {
		offer (names[i]);
		free (names[i]);
	}
	free (names);
}

/* The last word is the one that is completed. Shells take "--opt=value" apart, which is put together again. They take "http://host:5000"
 * apart, too: -1 when the service is said so. */
static int service_of (struct api_opts *o, char **words)
{
	const struct { const char *name; const char **to; } opts[] = {
		{ "--profile", &o->profile }, { "--state", &o->state }, { "--token-file", &o->token_file }, { "--ca-file", &o->ca_file },
	};
	for (; *words; words++) {
		if (!strcmp (*words, "--url"))
			return -1;
		for (size_t i = 0; i < sizeof (opts) / sizeof (opts[0]); i++)
			if (!strcmp (*words, opts[i].name)) {
				char **value = words + 1;
				if (*value && !strcmp (*value, "="))
					value++;
				if (*value && value[1])
					*opts[i].to = *value;
			}
	}
	return 0;
}

int complete_main (const char *kind, char **words)
{
	struct api_opts o = { 0 };
	signal (SIGALRM, too_late);
	alarm (LIMIT_S);
	if (!strcmp (kind, "PROFILE"))
		profiles ();
	else if (service_of (&o, words) < 0)
		return 0;
	else if (!strcmp (kind, "FUNCTION"))
		offer_all (names_functions (&o));
	else if (!strcmp (kind, "ENDPOINT"))
		offer_all (names_endpoints (&o));
	return 0;
}
