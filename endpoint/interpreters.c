/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint/interpreters.h"
#include "common/log.h"
#include "common/spawn.h"
#include "endpoint/paths.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 30000, ANSWER_MAX = 4096 };

static const char question[] =
	"import sys\n"
	"v = '%d.%d.%d' % sys.version_info[:3]\n"
	"try:\n"
	"    import dill\n"
	"    print(v, getattr(dill, '__version__', '?'))\n"
	"except Exception:\n"
	"    print(v, '-')\n";

int interpreters_read (const struct config *c, struct pythons *out, struct err *err)
{
	const struct conf_list *l = &c->python;

	memset (out, 0, sizeof (*out));
	for (size_t i = 0; i + 1 < l->n; i += 2) {
		const char *name = l->v[i];
		uint16_t version = *name ? python_version_exact (name) : 0;

		if (*name && !version) {
			pythons_fini (out);
			return err_set (err, ERR_INVALID, FAULT_USER, "'%.40s' is no version of Python: write it as \"3.11\", in quotes", name);
		}
		if (pythons_add (out, version, l->v[i + 1], err) < 0) {
			pythons_fini (out);
			return -1;
		}
	}
	if (!out->n || (out->n > 1 && pythons_find (out, 0) >= 0)) {
		pythons_fini (out);
		return err_set (err, ERR_INVALID, FAULT_USER, "name an interpreter, or several as {\"3.11\": /usr/bin/python3.11}");
	}
	return 0;
}

void interpreters_describe (const struct pythons *p, json_t *metadata)
{
	json_t *list = json_array ();
	char text[8];

	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].version)
			json_array_append_new (list, json_string (python_version_text (p->v[i].version, text)));
	if (!json_array_size (list)) {
		json_decref (list);
		return;
	}
	json_object_set_new (metadata, "python_version", json_incref (json_array_get (list, 0)));
	json_object_set_new (metadata, "pythons", list);
}

void interpreters_words (const char *path, const char *argv[4])
{
	argv[0] = path;
	argv[1] = "-c";
	argv[2] = question;
	argv[3] = NULL;
}

int interpreters_said (const char *text, struct interpreter_says *out)
{
	return sscanf (text, "%31s %31s", out->version, out->dill) == 2 && python_version (out->version) ? 0 : -1;
}

/* ---- asking a lone one ------------------------------------------------------------------------------------------ */

static void on_said (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct learning *n = arg;
	struct interpreter_says says;
	char text[128];

	(void) nerr;
	(void) errout;
	snprintf (text, sizeof (text), "%.*s", (int) (nout < 100 ? nout : 100), nout ? out : "");
	if (status == 0 && interpreters_said (text, &says) == 0) {
		n->p->v[0].version = python_version (says.version);
		n->done (n->arg);
	} else {
		log_warn ("agent", "the Python interpreter does not say its version; see weft-endpoint doctor", "python=%s err=%s", n->p->v[0].path,
			  err ? err->text : text);
	}
}

/* Interpreters are called python3.11, whatever links lead to them: then nothing need be started to know the version. 0: it is not. */
static uint16_t version_by_name (const char *program)
{
	char *found = paths_on_path (program), *real = found ? realpath (found, NULL) : NULL, *name = real ? strrchr (real, '/') + 1 : NULL;
	uint16_t version = name && strncmp (name, "python", 6) == 0 ? python_version_exact (name + 6) : 0;

	free (found);
	free (real);
	return version;
}

void interpreters_learn (struct loop *l, struct learning *n)
{
	const char *argv[4];
	struct err err;

	if (n->p->n != 1 || n->p->v[0].version || (n->p->v[0].version = version_by_name (n->p->v[0].path)))
		return;
	interpreters_words (n->p->v[0].path, argv);
	if (spawn_capture (l, argv, NULL, ANSWER_MS, ANSWER_MAX, on_said, n, &err) < 0)
		on_said (-1, NULL, 0, NULL, 0, &err, n);
}
