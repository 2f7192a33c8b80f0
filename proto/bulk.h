/* SPDX-License-Identifier: Apache-2.0 */
/* The bulk store: a directory that the programs of one host and one user share, so that large payloads and results are written once and
 * travel by reference (SPEC.md, section 9). All calls are blocking file operations on whole, bounded files.
 *
 * A payload stands in a slot (proto/bulk_payloads.h), or is a file of its own when there is none for it; a result is a record in a segment
 * (proto/bulk_segment.h). They are written once, and named in a message only when they are whole. They are read, never mapped: what others may
 * truncate must not kill us. Names come from msg_bulk.h only; symbolic links are not followed. */
#ifndef PROTO_BULK_H
#define PROTO_BULK_H
#include "proto/msg_bulk.h"

struct bulk;

/* make: the directory (its last level) and its id are made when missing; else a directory without an id is an error: it is no store.
 * One that others can enter, or that is not ours, is refused. */
struct bulk *bulk_open (const char *dir, bool make, struct err *err);
void bulk_close (struct bulk **b);		/* NULL is fine */
const struct id *bulk_id (const struct bulk *b);	/* two programs with the same id see the same store */
const char *bulk_dir (const struct bulk *b);	/* absolute; borrowed */

/* Write the payload of r (r->bytes of it). One that stands under this name is replaced. -1: ERR_LIMIT the disk is full, ERR_IO;
 * nothing is left behind then. */
int bulk_put (const struct bulk *b, const struct bulk_ref *r, const void *p, struct err *err);
/* Write a result; r says where it stands. -1 as above. */
int bulk_put_result (const struct bulk *b, const struct id *task, const void *p, uint32_t bytes, struct bulk_ref *r, struct err *err);
/* Read it whole into out (r->bytes). -1: ERR_NOT_FOUND it is gone, ERR_IO it has another size or cannot be read; fault SELF, and a text
 * for people. */
int bulk_get (const struct bulk *b, const struct bulk_ref *r, void *out, struct err *err);
int bulk_check (const struct bulk *b, const struct bulk_ref *r, struct err *err);	/* is it there, with its size? */
void bulk_delete (const struct bulk *b, const char *name);	/* a missing one is fine */

/* From now on a thread (common/syncer.h) brings what is put here, and results that are named to bulk_sync, to disk within two seconds, much as
 * Redis does with its append-only file: what Redis remembers after a power failure then is there too. reader: results that are read here are
 * hardly ever read again: once on disk they leave the system's memory, for the next ones. */
void bulk_sync_start (struct bulk *b, bool reader);
bool bulk_syncs (const struct bulk *b);	/* whether it was called; NULL: no */
void bulk_sync (const struct bulk *b, const struct bulk_ref *result);	/* of another program; nothing when bulk_sync_start was not called */

/* Walk through the store: the name of the next data of ours whose file was written more than min_age_ms ago. Segments of which nothing is
 * left, and sockets where nobody listens any more, are removed on the way. 0: the end (the next call begins anew). Looks at `budget` entries at
 * most, a file of slots is one; -1: none among them. */
int bulk_old (struct bulk *b, int64_t min_age_ms, int budget, char name[BULK_NAME_MAX + 1], struct id *task, enum bulk_kind *kind);

/* Where the forwarder of an endpoint listens within the host (SPEC.md, 9.3): an ipc address, the caller's to free. NULL: it is longer than that
 * of a Unix socket may be. */
char *bulk_link (const struct bulk *b, const struct id *endpoint);
/* Whether somebody listens at such an address: 0, or -1 with errno, ECONNREFUSED where nobody does any more. */
int bulk_link_knock (const char *address);

#endif
