/* SPDX-License-Identifier: Apache-2.0 */
/* A password for AMQP is random, good for connections made within its time, and stands in Redis as its hash only: any worker process knows
 * it, and a restart of the service forgets none. token: hash of the bearer token it was given for, or zeros. */
#ifndef SERVICE_AMQP_CREDENTIALS_H
#define SERVICE_AMQP_CREDENTIALS_H
#include "common/ids.h"
#include "service/amqp/codec.h"

struct app;
typedef void credentials_made_f (const char *password, const struct err *err, void *arg);
void credentials_make (struct app *a, const struct id *user, const uint8_t token[32], credentials_made_f *cb, void *arg);
/* user NULL: it is not good. err: Redis cannot be asked. */
typedef void credentials_f (const struct id *user, const uint8_t token[32], const struct err *err, void *arg);
void credentials_check (struct app *a, struct amqp_str user, struct amqp_str password, credentials_f *cb, void *arg);

#endif
