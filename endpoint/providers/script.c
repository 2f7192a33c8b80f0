/* SPDX-License-Identifier: Apache-2.0 */
/* The script of a job.
 *
 *     #!/bin/bash
 *     directives, scheduler_options
 *     without an argument (started by the scheduler): start this script again on each node, by the launcher
 *     with "node END": worker_init, then exec weft-manager with the time that is left
 *
 * What comes from the configuration stands in single quotes, or in a directive in double quotes; only worker_init, scheduler_options and
 * launcher_options are shell text, as their names promise. Control characters never get here (batch_check); if they did they would be blanks. */
#include "common/xmem.h"
#include "endpoint/providers/batch.h"

#include <stdlib.h>
#include <string.h>

static const char *const PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@,+%*[]";

void script_directive (struct buf *out, const char *directive, const char *option, const char *value)
{
	bool plain = !value[strspn (value, PLAIN)];

	buf_printf (out, "%s %s%s", directive, option, plain ? "" : "\"");
	for (const char *p = value; *p; p++) {
		if (*p == '"' || *p == '\\')
			buf_char (out, '\\');
		buf_char (out, (unsigned char) *p < ' ' || *p == 0x7f ? ' ' : *p);
	}
	buf_str (out, plain ? "\n" : "\"\n");
}

void script_time (struct buf *out, int64_t s)
{
	if (s >= 86400)
		buf_printf (out, "%lld-", (long long) (s / 86400));
	buf_printf (out, "%02d:%02d:%02d", (int) (s % 86400 / 3600), (int) (s % 3600 / 60), (int) (s % 60));
}

/* Whole lines, without the line ends of other systems. prefix: for directives; empty lines, and those of blanks, would end them. */
static void lines (struct buf *out, const char *text, const char *prefix)
{
	for (const char *p = text ? text : ""; *p;) {
		size_t n = strcspn (p, "\n"), skip = strspn (p, " \t\r");
		if (!prefix || skip < n) {
			if (prefix && p[skip] != '#')
				buf_printf (out, "%s ", prefix);
			buf_add (out, p, n && p[n - 1] == '\r' ? n - 1 : n);
			buf_char (out, '\n');
		}
		p += n + (p[n] == '\n');
	}
}

void script_again (struct buf *out, const char *script, int times)
{
	struct buf b;

	buf_init (&b, 65536);
	buf_str (&b, "/bin/bash ");
	provider_quote (script, &b);
	buf_str (&b, " node");
	if (times > 1)
		provider_quote ((const char *) b.data, out);
	else
		buf_str (out, (const char *) b.data);
	buf_fini (&b);
}

void script_each_host (struct buf *out, const char *hosts, const char *command)
{
	buf_printf (out, "\tfor weft_host in $(%s); do\n\t\t%s </dev/null &\n\tdone\n", hosts, command);
	buf_str (out, "\ttrap 'kill $(jobs -p) 2>/dev/null' EXIT\n\ttrap 'exit 143' TERM INT\n\twait -n\n\texit\n");
}

static void launch (const struct batch_system *s, const struct batch_conf *c, const struct batch_job *j, struct buf *out)
{
	bool more = c->launcher_options && *c->launcher_options;
	char *options = xasprintf ("%s%s", more ? c->launcher_options : "", more ? " " : ""), *command;

	switch ((enum batch_launcher) c->launcher) {
	case LAUNCH_OWN:
		s->launch (j, options, out);
		break;
	case LAUNCH_MPIEXEC:
		buf_printf (out, "\tweft_hosts=$(mktemp) || exit\n\t%s >\"$weft_hosts\"\n\tmpiexec -n %u --hostfile \"$weft_hosts\" %s", s->hosts, j->nodes,
			    options);
		script_again (out, j->script, 1);
		buf_str (out, " \"$weft_end\"\n\tweft_status=$?\n\trm -f \"$weft_hosts\"\n\texit $weft_status\n");
		break;
	case LAUNCH_SSH:
		buf_str (out, "\tweft_again=");
		script_again (out, j->script, 2);	/* a remote shell reads it once more */
		buf_char (out, '\n');
		command = xasprintf ("ssh -tt -o BatchMode=yes %s\"$weft_host\" \"$weft_again $weft_end\"", options);
		script_each_host (out, s->hosts, command);
		free (command);
		break;
	case LAUNCH_SINGLE:
		break;
	}
	free (options);
}

void script_render (const struct batch_system *s, const void *conf, const struct batch_job *j, struct buf *out)
{
	const struct batch_conf *c = conf;

	buf_str (out, "#!/bin/bash\n");
	s->header (conf, j, out);
	lines (out, c->scheduler_options, s->directive);
	buf_printf (out, "# Block %s of the Weft endpoint %s: %u node%s, each runs weft-manager until the job's time is over.\n", j->block,
		    j->endpoint, j->nodes, j->nodes == 1 ? "" : "s");
	buf_printf (out, "if [ \"${1-}\" = node ]; then\n\tweft_end=$2\nelse\n\tweft_end=$(($(date +%%s) + %lld))\n", (long long) c->walltime_s);
	if (s->script_logs) {
		buf_str (out, "\texec >>");
		provider_quote (j->log, out);
		buf_str (out, " 2>&1 </dev/null || exit\n");
	}
	launch (s, c, j, out);
	buf_str (out, "fi\n");
	if (c->worker_init && *c->worker_init) {
		buf_str (out, "# worker_init\n");
		lines (out, c->worker_init, NULL);
		buf_str (out, "# end of worker_init\n");
	}
	buf_str (out, "weft_left=$((weft_end - $(date +%s)))\n[ \"$weft_left\" -gt 0 ] || weft_left=1\nexec");
	for (size_t i = 0; j->argv[i]; i++) {
		buf_char (out, ' ');
		provider_quote (j->argv[i], out);
	}
	buf_printf (out, " --node \"%s\" --time-left-s \"$weft_left\"\n", s->node);
}
