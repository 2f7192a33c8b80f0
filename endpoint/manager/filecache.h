/* SPDX-License-Identifier: Apache-2.0 */
/* Files by their content, in a directory of the node that several managers may share. The directory is the only truth, so a manager
 * that is killed leaves nothing wrong.
 *
 *     DIR/lock        locked while room is made
 *     DIR/content/    <SHA-256>: whole and checked files, 0444. Its own mode is 0711: who finds it in a container can open the names that
 *                     it knows, and list none
 *     DIR/part/       files that are being written, each locked by its writer; one that nobody locks is left over
 *
 * Who uses a file holds a shared lock (flock) on it, which the system takes away with the process; only what nobody holds is removed. A file
 * comes to content/ by a link, after it was synced. Its time of change is the seal: whoever writes to it breaks it, and then it
 * is checked anew, and removed when it is another. Its time of access says when it was used last.
 *
 * All calls but create and destroy: any thread. */
#ifndef MANAGER_FILECACHE_H
#define MANAGER_FILECACHE_H
#include <stdint.h>
#include "proto/msg_files.h"

#define FILECACHE_CONTENT "content"

struct filecache;
/* Makes DIR (0700) and what is in it, removes what is left over. Refuses a directory of somebody else. */
struct filecache *filecache_create (const char *dir, int64_t max_bytes, struct err *err);
void filecache_destroy (struct filecache **c);

/* A descriptor that holds the file in its place; close it when it may go. -1: ERR_NOT_FOUND it is not here. */
int filecache_open (struct filecache *c, const uint8_t digest[FILES_DIGEST], uint64_t *bytes, struct err *err);

struct filecache_part { int fd; char name[40]; uint64_t room; };	/* fd -1: none */
int filecache_part_open (struct filecache *c, struct filecache_part *p, struct err *err);
/* It will have so many bytes: others make room. -1: ERR_LIMIT what is in use leaves too little. */
int filecache_part_room (struct filecache *c, struct filecache_part *p, uint64_t bytes, struct err *err);
/* It is whole, and has this content: returns what filecache_open would. The part is gone, on failure too. */
int filecache_part_keep (struct filecache *c, struct filecache_part *p, uint64_t bytes, const uint8_t digest[FILES_DIGEST], struct err *err);
void filecache_part_drop (struct filecache *c, struct filecache_part *p);

#endif
