/* SPDX-License-Identifier: Apache-2.0 */
/* The web console: the files of service/ui, compiled in. They show nothing by themselves; what they show comes from the API, with the
 * viewer's token. No inline code, nothing from elsewhere, and (trusted types) no HTML made from text. */
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include "common/hex.h"
#include "service/api/api.h"
#include "service/call.h"

#define HTML "text/html; charset=utf-8"
#define SCRIPT "text/javascript; charset=utf-8"

#define HEADERS                                                                                                                             \
	"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "            \
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'\r\n"         \
	"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Opener-Policy: same-origin\r\n"                    \
	"Cache-Control: no-cache\r\n"

static const unsigned char index_html[] = {
#include "service/ui/index.html.inc"
};
static const unsigned char style_css[] = {
#include "service/ui/style.css.inc"
};
static const unsigned char icon_svg[] = {
#include "service/ui/icon.svg.inc"
};
static const unsigned char theme_js[] = {
#include "service/ui/theme.js.inc"
};
static const unsigned char main_js[] = {
#include "service/ui/main.js.inc"
};
static const unsigned char api_js[] = {
#include "service/ui/api.js.inc"
};
static const unsigned char dom_js[] = {
#include "service/ui/dom.js.inc"
};
static const unsigned char format_js[] = {
#include "service/ui/format.js.inc"
};
static const unsigned char live_js[] = {
#include "service/ui/live.js.inc"
};
static const unsigned char names_js[] = {
#include "service/ui/names.js.inc"
};
static const unsigned char table_js[] = {
#include "service/ui/table.js.inc"
};
static const unsigned char login_js[] = {
#include "service/ui/login.js.inc"
};
static const unsigned char endpoints_js[] = {
#include "service/ui/endpoints.js.inc"
};
static const unsigned char tasks_js[] = {
#include "service/ui/tasks.js.inc"
};
static const unsigned char task_js[] = {
#include "service/ui/task.js.inc"
};
static const unsigned char functions_js[] = {
#include "service/ui/functions.js.inc"
};
static const unsigned char usage_js[] = {
#include "service/ui/usage.js.inc"
};

#define FILE_ROW(name, type, data) { name, type, data, sizeof (data), "" }
static struct file {
	const char *name, *type;
	const unsigned char *data;
	size_t bytes;
	char etag[36];			/* of the content, with quotes; made when it is first asked for */
} files[] = {
	FILE_ROW ("", HTML, index_html),
	FILE_ROW ("style.css", "text/css; charset=utf-8", style_css),
	FILE_ROW ("icon.svg", "image/svg+xml", icon_svg),
	FILE_ROW ("theme.js", SCRIPT, theme_js),
	FILE_ROW ("main.js", SCRIPT, main_js),
	FILE_ROW ("api.js", SCRIPT, api_js),
	FILE_ROW ("dom.js", SCRIPT, dom_js),
	FILE_ROW ("format.js", SCRIPT, format_js),
	FILE_ROW ("live.js", SCRIPT, live_js),
	FILE_ROW ("names.js", SCRIPT, names_js),
	FILE_ROW ("table.js", SCRIPT, table_js),
	FILE_ROW ("login.js", SCRIPT, login_js),
	FILE_ROW ("endpoints.js", SCRIPT, endpoints_js),
	FILE_ROW ("tasks.js", SCRIPT, tasks_js),
	FILE_ROW ("task.js", SCRIPT, task_js),
	FILE_ROW ("functions.js", SCRIPT, functions_js),
	FILE_ROW ("usage.js", SCRIPT, usage_js),
};

static struct file *find (struct http_str name)
{
	for (size_t i = 0; i < sizeof (files) / sizeof (files[0]); i++)
		if (strlen (files[i].name) == name.n && !memcmp (files[i].name, name.p, name.n))
			return &files[i];
	return NULL;
}

static const char *etag (struct file *f)
{
	uint8_t hash[SHA256_DIGEST_LENGTH];

	if (f->etag[0])
		return f->etag;
	SHA256 (f->data, f->bytes, hash);
	f->etag[0] = '"';
	strcpy (hex_text (f->etag + 1, hash, 16), "\"");
	return f->etag;
}

static void serve (struct call *c, struct http_str name)
{
	struct http_str have = http_header (c->req, "If-None-Match");
	struct file *f = find (name);
	char headers[700];
	struct buf b;

	if (!f) {
		call_fail (c, FAIL_NO_ROUTE, "the console has no file '%.*s'", (int) (name.n < 100 ? name.n : 100), name.p);
		return;
	}
	snprintf (headers, sizeof (headers), HEADERS "ETag: %s\r\n", etag (f));
	if (have.p && memmem (have.p, have.n, f->etag, strlen (f->etag))) {
		call_reply (c, 304, NULL, headers, NULL);
		return;
	}
	buf_init (&b, 0);
	buf_add (&b, f->data, f->bytes);
	call_reply (c, 200, f->type, headers, &b);
}

/* Relative, so that it is right behind a proxy that puts the service under a path of its own. */
static void go_to (struct call *c, const char *where)
{
	char headers[64];

	snprintf (headers, sizeof (headers), "Location: %s\r\n", where);
	call_reply (c, 302, NULL, headers, NULL);
}

void api_root (struct call *c)
{
	go_to (c, "console/");
}

void api_console (struct call *c)
{
	struct http_str path = http_path (c->req);

	if (path.p[path.n - 1] == '/')
		serve (c, (struct http_str) { "", 0 });
	else
		go_to (c, "console/");
}

void api_console_file (struct call *c)
{
	serve (c, c->params[0]);
}
