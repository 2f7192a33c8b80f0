/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a file of the bulk store. */
#ifndef PROTO_BULK_OPEN_H
#define PROTO_BULK_OPEN_H
#include <errno.h>
#include <fcntl.h>

/* As openat(2). When it was read is not noted: that is a change of the inode for each read, and nobody asks. Only its owner may have that, who we are
 * as long as the file system says so. */
static inline int bulk_open_file (int dir, const char *name, int flags)
{
	int fd = openat (dir, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOATIME, 0600);
	return fd < 0 && errno == EPERM ? openat (dir, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600) : fd;
}

#endif
