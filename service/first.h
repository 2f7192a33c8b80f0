/* SPDX-License-Identifier: Apache-2.0 */
/* The first start: a registry without users gets one, and a token for it in a file that only its owner can read. */
#ifndef SERVICE_FIRST_H
#define SERVICE_FIRST_H
#include "service/config.h"

int first_start (const struct config *c, struct err *err);

#endif
