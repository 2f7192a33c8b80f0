/* SPDX-License-Identifier: Apache-2.0 */
/* A sum of bytes that processes share, on several hosts too: a small file, read and written under its lock (flock). Who adds something to what
 * is summed up does so under the lock; who removes it may tell, or not: the sum is too high then, never too low, until somebody counts. They block. */
#ifndef COMMON_TALLY_H
#define COMMON_TALLY_H
#include <stdbool.h>
#include <stdint.h>

struct tally {
	int fd;			/* locked */
	bool known;		/* false: nobody has counted, or the file is damaged; sum is 0 */
	uint64_t sum;
	int64_t count_at_s;	/* real time: worth counting anew from then on; whoever counts says it */
};

/* The file `name` in the directory `dir`, made when missing, is locked. stop: asked while another one has the lock; true: give up.
 * 0, or -1 with errno: ECANCELED when stopped. */
int tally_lock (struct tally *t, int dir, const char *name, bool (*stop) (void *arg), void *arg);
void tally_unlock (struct tally *t);		/* as it was */
int tally_write_unlock (struct tally *t);	/* as it is now, known from then on. -1 with errno: not written, and not known any more */
/* For those who never look at the sum, after they have added something: it is not known any more, where there is one. As tally_lock. */
int tally_forget (int dir, const char *name, bool (*stop) (void *arg), void *arg);
bool tally_read (const char *path, uint64_t *sum);	/* without the lock, for people. False: there is none, or it is not known */

#endif
