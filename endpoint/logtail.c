/* SPDX-License-Identifier: Apache-2.0 */
/* See logtail.h. */
#include "endpoint/logtail.h"
#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 65536, TAIL_MAX = 4 << 20 };

void logtail_read (const char *path, char *out, size_t cap)
{
	FILE *f = fopen (path, "re");
	char raw[2048];
	long size;
	size_t n = 0, at = 0, want = cap / 2 < sizeof (raw) ? cap / 2 : sizeof (raw);

	out[0] = 0;
	if (!f)
		return;
	if (fseek (f, 0, SEEK_END) == 0 && (size = ftell (f)) > 0
	    && fseek (f, size > (long) want ? size - (long) want : 0, SEEK_SET) == 0)
		n = fread (raw, 1, want, f);
	fclose (f);
	while (n && (raw[n - 1] == '\n' || raw[n - 1] == ' '))
		n--;
	for (size_t i = 0; i < n && at + 4 < cap; i++) {
		if (raw[i] == '\n') {
			memcpy (out + at, " | ", 3);
			at += 3;
		} else {
			out[at++] = (unsigned char) raw[i] < ' ' || raw[i] == 0x7f ? ' ' : raw[i];
		}
	}
	out[at] = 0;
	utf8_mend (out, at);
}

long logtail_print (const char *path, int lines, FILE *to)
{
	FILE *f = fopen (path, "re");
	long size, start, end;
	char *text;
	size_t n, from;

	if (!f)
		return -1;
	fseek (f, 0, SEEK_END);
	size = ftell (f);
	start = size > TAIL_MAX ? size - TAIL_MAX : 0;
	text = malloc ((size_t) (size - start) + 1);
	fseek (f, start, SEEK_SET);
	n = text ? fread (text, 1, (size_t) (size - start), f) : 0;
	end = start + (long) n;
	fclose (f);
	from = n;
	for (int left = lines; from > 0; from--)
		if (text[from - 1] == '\n' && from != n && --left <= 0)
			break;
	if (lines > 0 && n)
		fwrite (text + from, 1, n - from, to);
	free (text);
	return end;
}

long logtail_more (const char *path, long offset, FILE *to)
{
	FILE *f = fopen (path, "re");
	char chunk[CHUNK];
	size_t n;

	if (!f)
		return offset;
	fseek (f, 0, SEEK_END);
	if (ftell (f) < offset)
		offset = 0;
	fseek (f, offset, SEEK_SET);
	while ((n = fread (chunk, 1, sizeof (chunk), f)) > 0) {
		fwrite (chunk, 1, n, to);
		offset += (long) n;
	}
	fclose (f);
	return offset;
}
