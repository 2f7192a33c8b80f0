/* SPDX-License-Identifier: Apache-2.0 */
/* weft console */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include "client/api.h"
#include "client/cmds.h"
#include "client/target.h"
#include "common/xmem.h"

struct opts { struct api_opts api; };

/* The ticket stands behind '#': browsers keep that to themselves, so it gets into no server's or proxy's log. */
static int cmd_console (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	json_t *made = api_call (&o->api, "POST", "/v3/console/tickets", json_object (), 0, &err);
	struct target *t;
	char *url;
	(void)argc;
	(void)argv;
	if (!made)
		return api_fail ("console", &err);
	t = target_find (&o->api, &err);	/* the one that was asked */
	url = xasprintf ("%s/console/#ticket=%s", t->p.url, api_str (made, "ticket"));
	if (o->api.json) {
		json_t *j = json_pack ("{s:s, s:O}", "url", url, "expires_in", json_object_get (made, "expires_in"));
		api_print_json (j);
		json_decref (j);
	} else
		printf ("%s\n", url);
	free (url);
	json_decref (made);
	return 0;
}

static const struct cli_opt opts[] = { API_OPTS (struct opts), CLI_END };

const struct cli_cmd cmds_console[] = {
	{ "console", "[OPTIONS]",
	  "Print an address of the web console that signs you in.\n"
	  "It works once, within two minutes, and for whoever opens it first. The page may only look, and is signed out after 12 hours or\n"
	  "when its tab is closed.",
	  opts, sizeof (struct opts), 0, 0, cmd_console },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
