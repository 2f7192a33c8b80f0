/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SERVICE_ADDRESS_H
#define SERVICE_ADDRESS_H
#include "common/err.h"

/* Hold "host:port" for the workers of this service: fails when anybody listens there already, which SO_REUSEPORT alone would not
 * tell. Returns a bound descriptor that never listens; resolved (owned) is the address with its real port. -1 with *err. */
int address_hold (const char *address, char **resolved, struct err *err);

#endif
