/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzzers of files share that are read back after a crash: a directory of their own, below the one they run in, which holds what the
 * input says. */
#ifndef TESTS_FUZZ_DISK_H
#define TESTS_FUZZ_DISK_H
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "common/log.h"
#include "common/tree.h"
#include "tests/fuzz/fuzz_msg.h"

/* Empty; the same at each call. */
static inline const char *fuzz_dir (void)
{
	static char dir[] = "./fuzz-XXXXXX";
	static int fd = -1;

	if (fd < 0) {
		log_open ("fuzz", NULL, LOG_ERROR, NULL);	/* what is damaged would be told each time */
		FUZZ_DEMAND (mkdtemp (dir));
		fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	FUZZ_DEMAND (fd >= 0 && tree_empty (fd) == 0);
	return dir;
}

static inline void fuzz_file (const char *dir, const char *name, const uint8_t *data, size_t n)
{
	char path[256];
	int fd;

	snprintf (path, sizeof (path), "%s/%s", dir, name);
	fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_DEMAND (fd >= 0 && write (fd, data, n) == (ssize_t) n && close (fd) == 0);
}

#endif
