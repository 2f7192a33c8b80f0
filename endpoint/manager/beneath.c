/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint/manager/beneath.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

int beneath_open (const char *dir, const char *rest, int flags)
{
	int at = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), next, saved;
	char part[NAME_MAX + 1];
	bool last = false;

	while (at >= 0 && !last) {
		size_t n = strcspn (rest, "/");

		last = !rest[n];
		if (n > NAME_MAX) {
			errno = ENAMETOOLONG;
			next = -1;
		} else {
			memcpy (part, rest, n);
			part[n] = '\0';
			next = openat (at, part, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (last ? flags : O_DIRECTORY));
		}
		saved = errno;
		close (at);
		errno = saved;
		at = next;
		rest += n + 1;
	}
	return at;
}
