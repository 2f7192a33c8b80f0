/* SPDX-License-Identifier: Apache-2.0 */
/* Threads for jobs that may block, started when they are first needed. A job runs in one of them, and ends on the loop; who hands it out embeds it
 * in a struct of its own. */
#ifndef MANAGER_CREW_H
#define MANAGER_CREW_H
#include <sys/queue.h>
#include "common/loop.h"

struct crew;
struct crew_job {
	void (*run) (struct crew_job *j);	/* in a thread; not called when it was stopped before */
	void (*done) (struct crew_job *j);	/* on the loop, always; may free the job */
	void (*drop) (struct crew_job *j);	/* instead of done, when the crew is destroyed before */
	int trouble;				/* why there is no thread to run it in, as errno; 0 = there was one */
	/* the crew's */
	struct crew *crew;
	bool stop;				/* under its lock */
	TAILQ_ENTRY (crew_job) link;
};

struct crew *crew_create (struct loop *l, unsigned parallel, struct err *err);	/* parallel: threads at most */
void crew_destroy (struct crew **c);		/* jobs under way are asked to stop, and waited for */
void crew_do (struct crew *c, struct crew_job *j);
void crew_stop (struct crew_job *j);		/* soon; done follows all the same */
bool crew_pause (struct crew_job *j, int64_t ms);	/* in run: wait so long, 0 = not at all. True: it is to stop */

#endif
