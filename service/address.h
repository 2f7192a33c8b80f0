/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SERVICE_ADDRESS_H
#define SERVICE_ADDRESS_H
#include "common/err.h"

/* A socket bound to "host:port" that shares it with the service's other ones (SO_REUSEPORT: the kernel spreads connections over those
 * that listen). The first one gives resolved, which is set (owned) to the address with its real port: then it fails when anybody listens
 * there already. The others take that address, and resolved NULL. -1 with *err. */
int address_bind (const char *address, char **resolved, struct err *err);

#endif
