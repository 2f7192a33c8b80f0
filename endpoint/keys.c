/* SPDX-License-Identifier: Apache-2.0 */
/* See keys.h. */
#include "endpoint/keys.h"
#include "common/conf.h"
#include "common/xmem.h"
#include "endpoint/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

int keys_new (struct keys *k, struct err *err)
{
	if (zmq_curve_keypair (k->public_key, k->secret_key) < 0)
		return err_set (err, ERR_INTERNAL, FAULT_SITE, "libzmq on this host has no CURVE support");
	return 0;
}

int keys_write (const struct keys *k, const char *path, struct err *err)
{
	char text[128];
	int n = snprintf (text, sizeof (text), "public = %s\nsecret = %s\n", k->public_key, k->secret_key);
	int rc = paths_write_durable (path, text, (size_t) n, 0600, err);

	explicit_bzero (text, sizeof (text));
	return rc;
}

int keys_read (struct keys *k, const char *path, struct err *err)
{
	char *text = conf_read_secret (path, 512, err), *at;
	int rc = -1;

	if (!text)
		return -1;
	at = strstr (text, "secret = ");
	if (at && strcspn (at + 9, "\r\n") == 40) {
		memcpy (k->secret_key, at + 9, 40);
		k->secret_key[40] = 0;
		rc = zmq_curve_public (k->public_key, k->secret_key) < 0 ? -1 : 0;
	}
	if (rc < 0)
		err_set (err, ERR_INVALID, FAULT_SITE, "%s is not a key file: expected 'secret = ' and 40 characters of Z85", path);
	explicit_bzero (text, strlen (text));
	free (text);
	return rc;
}
