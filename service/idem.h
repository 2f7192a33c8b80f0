/* SPDX-License-Identifier: Apache-2.0 */
/* Idempotency-Key: a submission repeated with the same key gets the first one's answer and stores nothing.
 *
 * weft:idem:{owner}:<sha256 of the key> holds u8 'C' (claimed), 'T' (taken over, or left) or 'R' (done), SHA-256 of the request, the id of the last task,
 * unless it is done also the name of the process that works on it, a u32 (little-endian) and so many ids, those of group and tasks, then the
 * answer's text. All of it is known before the tasks are stored. So a process that dies in between leaves a 'C' from which the next one
 * can tell, by looking for the last task, whether they were; and if not, and nobody listens on that process's channel any more, it
 * stores them under the ids that they were to have: those that were stored already are not again.
 *
 * Tasks of a claim that was taken over may be queued, and may have run. So it is never given up: who cannot store the rest leaves it to
 * the next, as it is. Its first byte is 'T' then, from which the one who made it can tell, should it live: what was taken over it must
 * not take back (proto/lua/undo.lua, which also removes the claim). */
#ifndef SERVICE_IDEM_H
#define SERVICE_IDEM_H
#include "common/http.h"
#include "service/app.h"

#define IDEM_KEY_MAX 128
struct idem { char key[LAYOUT_KEY_MAX + 72]; uint8_t request[32]; };

void idem_init (struct idem *i, const struct id *owner, struct http_str header, struct http_str path, struct http_str body);

enum idem_outcome { IDEM_OURS, IDEM_ANSWERED, IDEM_IN_PROGRESS, IDEM_OTHER_REQUEST,
		    IDEM_LEFT };	/* ours, too: somebody who did not get to the end left it */
/* answer: of the first request, with ANSWERED and LEFT; ids, with LEFT: what the tasks are to be stored under. Borrowed. From the loop,
 * once. */
typedef void idem_f (enum idem_outcome o, const char *answer, size_t n, const struct id *ids, size_t nids, const struct err *err, void *arg);
/* ids: the group's, then the tasks'; copied. */
void idem_claim (struct app *a, const struct idem *i, const struct id *ids, size_t nids, const char *answer, size_t n, idem_f *cb, void *arg);
void idem_finish (struct app *a, const struct idem *i, const struct id *last_task, const char *answer, size_t n);
#define IDEM_HEAD (1 + 32 + ID_BYTES)
void idem_head (const struct idem *i, const struct id *last_task, uint8_t head[IDEM_HEAD]);	/* of our claim, while nobody has taken it over */
void idem_leave (struct app *a, const struct idem *i);		/* it failed: who repeats it gets LEFT */

#endif
