/* SPDX-License-Identifier: Apache-2.0 */
/* Idempotency-Key: a submission repeated with the same key gets the first one's answer and stores nothing.
 *
 * weft:idem:{owner}:<sha256 of the key> holds u8 'P' (in progress) or 'R' (done), SHA-256 of the request, the id of the last task,
 * then the answer's text. The answer is known before the tasks are stored, so a process that dies in between leaves a 'P' from
 * which the next one can tell, by looking for the last task, whether they were. */
#ifndef SERVICE_IDEM_H
#define SERVICE_IDEM_H
#include "common/http.h"
#include "service/app.h"

#define IDEM_KEY_MAX 128
struct idem { char key[LAYOUT_KEY_MAX + 72]; uint8_t request[32]; };

void idem_init (struct idem *i, const struct id *owner, struct http_str header, struct http_str path, struct http_str body);

enum idem_outcome { IDEM_OURS, IDEM_ANSWERED, IDEM_IN_PROGRESS, IDEM_OTHER_REQUEST };
/* answer: of the first request, with ANSWERED; borrowed. From the loop, once. */
typedef void idem_f (enum idem_outcome o, const char *answer, size_t n, const struct err *err, void *arg);
void idem_claim (struct app *a, const struct idem *i, const struct id *last_task, const char *answer, size_t n, idem_f *cb, void *arg);
void idem_finish (struct app *a, const struct idem *i, const struct id *last_task, const char *answer, size_t n);
void idem_release (struct app *a, const struct idem *i);	/* it failed: the key may be used again */

#endif
