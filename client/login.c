/* SPDX-License-Identifier: Apache-2.0 */
/* weft login, logout, profile list|use */
#include <ctype.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "client/api.h"
#include "client/cmds.h"
#include "client/target.h"
#include "common/conf.h"
#include "common/fetch.h"
#include "common/xmem.h"

#define SECRET_MAX 8192

struct opts {
	const char *profile, *token_file, *secret_file, *client_id, *ca_file, *endpoint;
	bool json, plain_http, all;
};
#define AT(f) offsetof (struct opts, f)

/* ---- asking -------------------------------------------------------------------------------------------------------------- */

/* One line from the terminal without showing it; or the first line of standard input, when that is none. Owned. */
static char *ask_secret (const char *what, struct err *err)
{
	char line[SECRET_MAX + 2] = "";
	struct termios was, quiet;
	bool terminal = isatty (0) && tcgetattr (0, &was) == 0;
	size_t n;
	if (terminal) {
		quiet = was;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr (0, TCSAFLUSH, &quiet);
		fprintf (stderr, "%s (is not shown): ", what);
	}
	if (!fgets (line, sizeof (line), stdin))
		line[0] = '\0';
	if (terminal) {
		tcsetattr (0, TCSAFLUSH, &was);
		fputc ('\n', stderr);
	}
	n = strcspn (line, "\r\n");
	line[n] = '\0';
	if (!n || n > SECRET_MAX) {
		err_set (err, ERR_INVALID, FAULT_USER, "%s: %s on standard input", what, n ? "the line is too long" : "nothing was given");
		return NULL;
	}
	char *out = xstrdup (line);
	explicit_bzero (line, sizeof (line));
	return out;
}

/* ---- the URL -------------------------------------------------------------------------------------------------------------- */

static bool on_this_machine (const char *host)
{
	size_t n = strcspn (host, ":/");
	return !strncmp (host, "127.", 4) || !strncmp (host, "[::1]", 5) || (n == 9 && !strncmp (host, "localhost", 9));
}

static int check_url (const struct opts *o, const char *url, struct err *err)
{
	bool plain = !strncmp (url, "http://", 7);
	if ((!plain && strncmp (url, "https://", 8)) || strpbrk (url, " \t\r\n?#") || !strchr (url, ':')[3])
		return err_set (err, ERR_INVALID, FAULT_USER, "'%.100s' is not the URL of a service: https://HOST[:PORT] is expected", url);
	if (plain && !o->plain_http && !on_this_machine (url + 7))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: the token would travel unprotected over http; use https, or give --plain-http when the "
				"way there is safe", url);
	return 0;
}

/* "https://weft.example.org:8443/x" -> "weft.example.org" */
static char *name_of (const char *url)
{
	const char *host = strstr (url, "://") + 3;
	char *name = strndup (host, strcspn (host, ":/"));
	for (char *p = name; *p; p++)
		if (!isalnum ((unsigned char)*p) && *p != '.' && *p != '-')
			*p = '-';
	if (profile_check_name (name, NULL) == 0)
		return name;
	free (name);
	return xstrdup ("default");
}

/* ---- login ---------------------------------------------------------------------------------------------------------------- */

/* Who the service takes the token for: an owned object, or NULL with *err. */
static json_t *whoami (const struct profile *p, struct err *err)
{
	char *url = xasprintf ("%s/v3/whoami", p->url), *text = NULL;
	struct fetch_args a = { .method = "GET", .url = url, .bearer = p->token, .timeout_ms = 20000 };
	json_t *me = NULL;
	size_t n;
	int status = fetch_sync (&a, p->ca_file, &text, &n, err);
	if (!status)
		err_prefix (err, "%s cannot be reached", p->url);
	else if (status == 401)
		err_set (err, ERR_UNAUTHENTICATED, FAULT_USER, "%s does not accept this token: it is mistyped, expired or revoked. Its operator makes one with "
			 "`weft-service token create --user NAME`", p->url);
	else if (status != 200 || !(me = json_loadb (text, n, 0, NULL)) || !*api_str (me, "user_id")) {
		err_set (err, ERR_INVALID, FAULT_USER, "%s does not answer like a Weft service (HTTP %d)", url, status);
		json_decref (me);
		me = NULL;
	}
	free (text);
	free (url);
	return me;
}

static int secrets (const struct opts *o, struct profile *p, struct err *err)
{
	if (o->client_id ? !!o->token_file : !!o->secret_file)
		return err_set (err, ERR_INVALID, FAULT_USER, o->client_id ? "--client-id goes with --secret-file, not with --token-file" :
				"--secret-file needs --client-id; a token is taken from --token-file");
	if (o->client_id) {
		p->client_id = xstrdup (o->client_id);
		p->client_secret = o->secret_file ? conf_read_secret (o->secret_file, SECRET_MAX, err) : ask_secret ("client secret", err);
		return p->client_secret ? target_grant (p, err) : -1;
	}
	p->token = o->token_file ? conf_read_secret (o->token_file, SECRET_MAX, err) : ask_secret ("token", err);
	return p->token ? 0 : -1;
}

static int cmd_login (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	struct profile p = { 0 }, old = { 0 };
	char *name = NULL, *home = profile_home ();
	json_t *me = NULL;
	int rc = -1;
	if (argc)
		p.url = xstrdup (argv[0]);
	else if (o->profile && profile_read (&old, o->profile, &err) == 0) { /* again, with another token */
		p.url = xstrdup (old.url);
		p.endpoint = xstrdup (old.endpoint);
		p.ca_file = xstrdup (old.ca_file);
	} else if (!o->profile)
		err_set (&err, ERR_INVALID, FAULT_USER, "which service? give its URL: weft login https://HOST");
	if (!p.url)
		goto out;
	target_trim_url (p.url);
	if (check_url (o, p.url, &err) < 0)
		goto out;
	name = o->profile ? xstrdup (o->profile) : name_of (p.url);
	if (o->ca_file) {
		free (p.ca_file);
		p.ca_file = realpath (o->ca_file, NULL);
		if (!p.ca_file) {
			err_errno (&err, "%s", o->ca_file);
			goto out;
		}
	}
	if (o->endpoint) {
		free (p.endpoint);
		p.endpoint = xstrdup (o->endpoint);
	}
	if (profile_check_name (name, &err) < 0 || secrets (o, &p, &err) < 0 || !(me = whoami (&p, &err)) || profile_write (&p, name, &err) < 0 ||
	    profile_use (name, &err) < 0)
		goto out;
	rc = 0;
	if (o->json)
		api_print_json (json_object_set_new (me, "profile", json_string (name)) == 0 ? me : NULL);
	else
		printf ("logged in to %s as %s (scopes: %s)\nstored as profile %s, in %s/profiles/%s\n", p.url, api_str (me, "name"),
			api_str (me, "scopes"), name, home, name);
	if (getenv ("WEFT_URL") || getenv ("WEFT_TOKEN") || getenv ("WEFT_PROFILE"))
		fprintf (stderr, "note: WEFT_URL, WEFT_TOKEN or WEFT_PROFILE is set and stands above it; use --profile %s, or unset them\n", name);
out:
	json_decref (me);
	profile_fini (&p);
	profile_fini (&old);
	free (name);
	free (home);
	return rc < 0 ? api_fail ("login", &err) : 0;
}

/* ---- the others ----------------------------------------------------------------------------------------------------------- */

static int cmd_logout (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	size_t n = 0;
	char *now = o->profile ? xstrdup (o->profile) : profile_current (), **all = NULL;
	int rc = 0;
	(void)argc;
	(void)argv;
	if (o->all)
		all = profile_list (&n);
	for (size_t i = 0; i < n; i++) {
		if (rc == 0 && (rc = profile_remove (all[i], &err)) == 0 && !o->json)
			printf ("forgot profile %s\n", all[i]);
		free (all[i]);
	}
	free (all);
	if (!o->all && !now)
		rc = err_set (&err, ERR_NOT_FOUND, FAULT_USER, "no profile is in use: say which with --profile; `weft profile list` shows them");
	else if (!o->all && (rc = profile_remove (now, &err)) == 0 && !o->json)
		printf ("forgot profile %s; its token is still valid until it expires or `weft-service token revoke` ends it\n", now);
	free (now);
	return rc < 0 ? api_fail ("logout", &err) : 0;
}

static int cmd_list (void *op, int argc, char **argv)
{
	struct opts *o = op;
	size_t n;
	char **names = profile_list (&n), *now = profile_current (), when[32];
	json_t *list = json_array ();
	(void)argc;
	(void)argv;
	if (!o->json && n)
		printf ("%-2s%-24s  %-40s  %s\n", "", "PROFILE", "URL", "HOW");
	for (size_t i = 0; i < n; i++) {
		struct profile p;
		struct err err = { 0 };
		bool used = now && !strcmp (now, names[i]), ok = profile_read (&p, names[i], &err) == 0;
		const char *how = !ok ? err.text : p.client_id ? "client id and secret" : "token";
		if (o->json)
			json_array_append_new (list, json_pack ("{s:s, s:s, s:b, s:s, s:s?}", "profile", names[i], "url", ok && p.url ? p.url : "", "in_use",
								(int)used, "how", how, "token_expires", ok && p.expires_s ?
								api_time ((double)p.expires_s, when) : NULL));
		else
			printf ("%-2s%-24s  %-40s  %s\n", used ? "*" : "", names[i], ok && p.url ? p.url : "-", how);
		if (ok)
			profile_fini (&p);
		free (names[i]);
	}
	if (o->json)
		api_print_json (list);
	else if (!n)
		puts ("no profiles: weft login https://HOST makes one");
	json_decref (list);
	free (names);
	free (now);
	return 0;
}

static int cmd_use (void *op, int argc, char **argv)
{
	struct profile p;
	struct err err = { 0 };
	(void)op;
	(void)argc;
	if (profile_read (&p, argv[0], &err) < 0 || profile_use (argv[0], &err) < 0)
		return api_fail ("profile use", &err);
	profile_fini (&p);
	return 0;
}

#define JSON_OPT { "json", 'j', CLI_FLAG, AT (json), NULL, 0, 0, "print JSON, for programs" }
static const struct cli_opt login_opts[] = {
	{ "profile", 0, CLI_STRING, AT (profile), "PROFILE", 0, 0, "what to call it; default: the host's name" },
	{ "token-file", 0, CLI_STRING, AT (token_file), "FILE", 0, 0, "take the token from this file instead of asking" },
	{ "client-id", 0, CLI_STRING, AT (client_id), "ID", 0, 0, "log in with client id and secret; tokens are then got, and renewed, as needed" },
	{ "secret-file", 0, CLI_STRING, AT (secret_file), "FILE", 0, 0, "take the client secret from this file instead of asking" },
	{ "endpoint", 'e', CLI_STRING, AT (endpoint), "ENDPOINT", 0, 0, "the endpoint to use there when none is named" },
	{ "ca-file", 0, CLI_STRING, AT (ca_file), "FILE", 0, 0, "certificates to trust, for https with a private CA; remembered" },
	{ "plain-http", 0, CLI_FLAG, AT (plain_http), NULL, 0, 0, "send the token over http to another machine" },
	JSON_OPT, CLI_END,
};
static const struct cli_opt logout_opts[] = {
	{ "profile", 0, CLI_STRING, AT (profile), "PROFILE", 0, 0, "which one; default: the one in use" },
	{ "all", 'a', CLI_FLAG, AT (all), NULL, 0, 0, "all of them" },
	JSON_OPT, CLI_END,
};
static const struct cli_opt list_opts[] = { JSON_OPT, CLI_END };
static const struct cli_opt use_opts[] = { CLI_END };

const struct cli_cmd cmds_login[] = {
	{ "login", "[OPTIONS] [URL]",
	  "Store where a service is and who you are there; commands use it from then on.\n"
	  "The token is asked for without showing it, or read from standard input when that is no terminal, or from --token-file. It is\n"
	  "checked with the service, and written to ~/.weft/profiles/NAME, which only you can read. Without URL: --profile again, with a new token.\n"
	  "\n"
	  "Which service a command talks to, the first that says it: --profile or --state; WEFT_PROFILE; WEFT_URL and WEFT_TOKEN; the last\n"
	  "login; the fabric of `weft up`. --url and --token-file stand above all. A stored token is sent to the URL of its login only.\n"
	  "\n"
	  "  weft login https://weft.example.org\n"
	  "  weft login https://weft.example.org --profile lab < token\n"
	  "  weft login https://weft.example.org --client-id alice --secret-file ~/.secret",
	  login_opts, sizeof (struct opts), 0, 1, cmd_login },
	{ "logout", "[OPTIONS]", "Forget a login: removes its file.", logout_opts, sizeof (struct opts), 0, 0, cmd_logout },
	{ "profile list", "[OPTIONS]", "List the logins that are stored; * marks the one in use.", list_opts, sizeof (struct opts), 0, 0, cmd_list },
	{ "profile use", "PROFILE", "Use another login from now on.", use_opts, sizeof (struct opts), 1, 1, cmd_use },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
