/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of files: SPEC.md, section 3.7. An entry is a record of its own behind a u16 of its length, so that lists can be read by
 * programs that know fewer fields. */
#include "proto/msg_files.h"
#include <stdio.h>
#include <strings.h>
#include "common/hex.h"
#include "common/utf8.h"
#include "proto/wire_record.h"

#define ENTRY_FIXED 48

/* UTF-8 without control characters, which people see. */
static bool is_text (struct wire_str s)
{
	const unsigned char *p = (const unsigned char *) s.p;

	for (size_t i = 0, n; i < s.n; i += n)
		if (!(n = utf8_seq (p + i, s.n - i)) || p[i] < 0x20 || p[i] == 0x7f)
			return false;
	return true;
}

void msg_files_add (struct buf *list, const struct msg_file *f)
{
	uint8_t fixed[2 + ENTRY_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str parts[] = { f->name, f->url };

	if (f->name.n > FILES_NAME_MAX || f->url.n > FILES_URL_MAX) {
		wire_refuse (list);
		return;
	}
	wire_w16 (&w, (uint16_t) (ENTRY_FIXED + f->name.n + f->url.n));
	wire_w16 (&w, ENTRY_FIXED);
	wire_w8 (&w, f->kind);
	wire_w8 (&w, f->flags);
	memcpy (w.p, f->digest, FILES_DIGEST);
	w.p += FILES_DIGEST;
	wire_w64 (&w, f->max_bytes);
	wire_w16 (&w, (uint16_t) f->name.n);
	wire_w16 (&w, (uint16_t) f->url.n);
	wire_record_add (list, fixed, sizeof (fixed), parts, 2);
}

int msg_files_next (struct wire_str *list, struct msg_file *out, struct err *err)
{
	struct wire_reader r = { (const uint8_t *) list->p, list->n, false };
	struct wire_record rec;
	struct wire_str entry, digest;

	if (!list->n)
		return 0;
	entry = wire_get_bytes (&r, wire_get_u16 (&r));
	if (r.bad)
		return err_set (err, ERR_INVALID, FAULT_PEER, "files: an entry runs over the end of the list");
	if (wire_record_open (&rec, entry.p, entry.n, ENTRY_FIXED, ENTRY_FIXED, "file", err) < 0)
		return -1;
	out->kind = wire_get_u8 (&rec.fixed);
	out->flags = wire_get_u8 (&rec.fixed);
	digest = wire_get_bytes (&rec.fixed, FILES_DIGEST);
	memcpy (out->digest, digest.p, FILES_DIGEST);
	out->max_bytes = wire_get_u64 (&rec.fixed);
	size_t name = wire_get_u16 (&rec.fixed), url = wire_get_u16 (&rec.fixed);
	if (wire_record_take (&rec, &out->name, name, FILES_NAME_MAX, "name", err) < 0 ||
	    wire_record_take (&rec, &out->url, url, FILES_URL_MAX, "url", err) < 0 || wire_record_close (&rec, err) < 0)
		return -1;
	*list = wire_str ((const char *) r.p, r.left);
	return 1;
}

int msg_files_check (struct wire_str list, struct err *err)
{
	struct wire_str names[FILES_MAX];
	struct msg_file f;
	size_t n = 0;
	int rc;

	if (list.n > FILES_MAX_BYTES)
		return err_set (err, ERR_TOO_LARGE, FAULT_USER, "files: %zu bytes, at most %d", list.n, FILES_MAX_BYTES);
	while ((rc = msg_files_next (&list, &f, err)) > 0) {
		if (n == FILES_MAX)
			return err_set (err, ERR_TOO_LARGE, FAULT_USER, "files: more than %d", FILES_MAX);
		if (msg_files_name_ok (f.name, err) < 0 || (f.url.n && msg_files_url_ok (f.url, err) < 0))
			return -1;
		for (size_t i = 0; i < n; i++)
			if (names[i].n == f.name.n && memcmp (names[i].p, f.name.p, f.name.n) == 0)
				return err_set (err, ERR_INVALID, FAULT_USER, "files: the name '%.*s' stands there twice", (int) f.name.n, f.name.p);
		names[n++] = f.name;
	}
	return rc;
}

bool msg_files_fixed (struct wire_str list)
{
	struct msg_file f;

	while (msg_files_next (&list, &f, NULL) > 0)
		if (f.kind != FILE_INPUT || !(f.flags & FILE_HAS_DIGEST))
			return false;
	return true;
}

static bool has_kind (struct wire_str list, int kind)
{
	struct msg_file f;

	while (msg_files_next (&list, &f, NULL) > 0)
		if (f.kind == kind)
			return true;
	return false;
}

bool msg_files_has_kept (struct wire_str list) { return has_kind (list, FILE_KEEP); }
bool msg_files_has_outputs (struct wire_str list) { return has_kind (list, FILE_OUTPUT) || has_kind (list, FILE_KEEP); }

void msg_files_data_add (struct buf *files, struct wire_str name, struct wire_str data)
{
	uint8_t fixed[6];
	struct wire_writer w = { fixed };
	struct wire_str parts[] = { name, data };

	if (name.n > FILES_NAME_MAX || data.n > FILES_DATA_MAX) {
		wire_refuse (files);
		return;
	}
	wire_w16 (&w, (uint16_t) name.n);
	wire_w32 (&w, (uint32_t) data.n);
	wire_record_add (files, fixed, sizeof (fixed), parts, 2);
}

int msg_files_data_next (struct wire_str *files, struct wire_str *name, struct wire_str *data, struct err *err)
{
	struct wire_reader r = { (const uint8_t *) files->p, files->n, false };
	size_t n, size;

	if (!files->n)
		return 0;
	n = wire_get_u16 (&r);
	size = wire_get_u32 (&r);
	*name = wire_get_bytes (&r, n);
	*data = wire_get_bytes (&r, size);
	if (r.bad)
		return err_set (err, ERR_INVALID, FAULT_PEER, "files of a result: one runs over the end");
	if (msg_files_name_ok (*name, err) < 0)
		return -1;
	*files = wire_str ((const char *) r.p, r.left);
	return 1;
}

void msg_files_kept_add (struct buf *kept, struct wire_str path, uint64_t bytes)
{
	uint8_t fixed[10];
	struct wire_writer w = { fixed };

	if (path.n > FILES_PATH_MAX) {
		wire_refuse (kept);
		return;
	}
	wire_w16 (&w, (uint16_t) path.n);
	wire_w64 (&w, bytes);
	wire_record_add (kept, fixed, sizeof (fixed), &path, 1);
}

int msg_files_kept_next (struct wire_str *kept, struct msg_kept *out, struct err *err)
{
	struct wire_reader r = { (const uint8_t *) kept->p, kept->n, false };
	const char *slash;
	size_t n;

	if (!kept->n)
		return 0;
	n = wire_get_u16 (&r);
	out->bytes = wire_get_u64 (&r);
	out->path = out->name = wire_get_bytes (&r, n);
	if (r.bad || n > FILES_PATH_MAX)
		return err_set (err, ERR_INVALID, FAULT_PEER, "kept files of a result: one runs over the end, or its path has more than %d bytes",
				FILES_PATH_MAX);
	if ((slash = n ? memrchr (out->path.p, '/', n) : NULL))
		out->name = wire_str (slash + 1, n - (size_t) (slash + 1 - out->path.p));
	if (msg_files_name_ok (out->name, err) < 0)
		return -1;
	if (slash && (out->path.p[0] != '/' || !is_text (out->path)))
		return err_set (err, ERR_INVALID, FAULT_PEER, "kept files of a result: a path is not absolute, or no text");
	*kept = wire_str ((const char *) r.p, r.left);
	return 1;
}

int msg_files_name_ok (struct wire_str name, struct err *err)
{
	const unsigned char *p = (const unsigned char *) name.p;

	if (!name.n || name.n > FILES_NAME_MAX)
		return err_set (err, ERR_INVALID, FAULT_USER, "a file's name has 1 to %d bytes, not %zu", FILES_NAME_MAX, name.n);
	if (!is_text (name))
		return err_set (err, ERR_INVALID, FAULT_USER, "a file's name must be UTF-8 text without control characters");
	if (memchr (name.p, '/', name.n))
		return err_set (err, ERR_INVALID, FAULT_USER, "file name '%.*s': it names a file in the task's work directory, and has no '/'",
				(int) (name.n < 80 ? name.n : 80), name.p);
	if ((name.n == 1 && p[0] == '.') || (name.n == 2 && p[0] == '.' && p[1] == '.') || (name.n >= 5 && !memcmp (p, ".weft", 5)))
		return err_set (err, ERR_INVALID, FAULT_USER, "a file cannot have the name '%.*s'", (int) name.n, name.p);
	return 0;
}

static bool scheme_is (struct wire_str url, const char *scheme)
{
	size_t n = strlen (scheme);

	return url.n >= n && strncasecmp (url.p, scheme, n) == 0;
}

int msg_files_url_ok (struct wire_str url, struct err *err)
{
	const char *p, *end = url.p + url.n;

	if (!url.n || url.n > FILES_URL_MAX)
		return err_set (err, ERR_INVALID, FAULT_USER, "a file's URL has 1 to %d bytes, not %zu", FILES_URL_MAX, url.n);
	for (size_t i = 0; i < url.n; i++)
		if (url.p[i] <= ' ' || url.p[i] >= 127)
			return err_set (err, ERR_INVALID, FAULT_USER, "a file's URL has printable ASCII only; write others as %%XX");
	if (memchr (url.p, '#', url.n))
		return err_set (err, ERR_INVALID, FAULT_USER, "a file's URL has no fragment (#...): a checksum goes into 'sha256'");
	if (scheme_is (url, "file:")) {
		if (url.n < 9 || memcmp (url.p + 5, "///", 3) || url.p[8] == '/')
			return err_set (err, ERR_INVALID, FAULT_USER, "a file: URL is file:///PATH, from the root");
		return 0;
	}
	if (!scheme_is (url, "http://") && !scheme_is (url, "https://"))
		return err_set (err, ERR_INVALID, FAULT_USER, "a file's URL begins with https://, http:// or file:///");
	p = url.p + (scheme_is (url, "http://") ? 7 : 8);
	for (url.p = p; p < end && !strchr ("/?", *p); p++)
		if (*p == '@')
			return err_set (err, ERR_INVALID, FAULT_USER, "a file's URL must not hold a user or password: it is shown in errors");
	if (p == url.p)
		return err_set (err, ERR_INVALID, FAULT_USER, "a file's URL names a host");
	return 0;
}

bool msg_files_digest_parse (uint8_t digest[FILES_DIGEST], const char *text, size_t n)
{
	if (n != 2 * FILES_DIGEST)
		return false;
	for (size_t i = 0; i < n; i++)
		if (hex_digit (text[i]) < 0)
			return false;
	for (size_t i = 0; i < FILES_DIGEST; i++)
		digest[i] = (uint8_t) (hex_digit (text[2 * i]) << 4 | hex_digit (text[2 * i + 1]));
	return true;
}

const char *msg_files_digest_text (const uint8_t digest[FILES_DIGEST], char out[FILES_DIGEST_TEXT])
{
	hex_text (out, digest, FILES_DIGEST);
	return out;
}

const char *msg_files_url_text (struct wire_str url, char *out, size_t room)
{
	const char *query = url.n ? memchr (url.p, '?', url.n) : NULL;
	size_t n = query ? (size_t) (query - url.p) : url.n;
	bool cut = n > room - 5;

	if (cut)
		n = room - 5;
	snprintf (out, room, "%.*s%s", (int) n, url.p, cut ? "..." : query ? "?..." : "");
	return out;
}
