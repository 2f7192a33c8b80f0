/* SPDX-License-Identifier: Apache-2.0 */
/* Where the Executor of globus-compute-sdk gets results from: the address of our AMQP port, with a user and a password made for this call. */
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "service/amqp/credentials.h"
#include "service/amqp/server.h"
#include "service/api/api.h"
#include "service/call.h"

struct asking { struct call *c; struct buf address; };

/* amqp://host:port -> amqp://user:password@host:port/ */
static void on_made (const char *password, const struct err *err, void *arg)
{
	struct asking *k = arg;
	struct call *c = k->c;
	char prefix[AMQP_PREFIX_MAX], user[ID_TEXT];
	const char *address = (const char *) k->address.data, *host = strstr (address, "://") + 3;
	struct buf b;

	if (err) {
		call_fail_err (c, err, FAIL_INTERNAL);
	} else {
		amqp_queue_prefix (&c->who.user, prefix);
		buf_init (&b, 0);
		buf_printf (&b, "{\"queue_prefix\":\"%s\",\"connection_url\":\"%.*s%s:%s@%s/\"}", prefix, (int) (host - address), address,
			    id_text (&c->who.user, user), password, host);
		call_ok (c, &b);
	}
	buf_fini (&k->address);
	free (k);
}

void api_amqp_url (struct call *c)
{
	struct http_str host = http_header (c->req, "Host");
	struct asking *k;

	if (!amqp_served (c->app->amqp)) {
		call_fail (c, FAIL_NOT_IMPLEMENTED, "this service does not offer result queues over AMQP, which the SDK's Executor needs: its "
						    "operator turns them on with 'amqp.listen'. Client.get_batch_result, and "
						    "GET /v2/tasks/{id}?wait=SECONDS, work without");
		return;
	}
	if (call_need_redis (c) < 0)
		return;
	k = xcalloc (1, sizeof (*k));
	k->c = c;
	buf_init (&k->address, 0);
	amqp_address (c->app->amqp, host.p, host.n, &k->address);
	/* so that the connection ends with the token */
	credentials_make (c->app, &c->who.user, c->who.token, on_made, k);
}
