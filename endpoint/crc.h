/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 (IEEE 802.3, as in zlib). */
#ifndef ENDPOINT_CRC_H
#define ENDPOINT_CRC_H
#include <stddef.h>
#include <stdint.h>

uint32_t crc_of (const void *p, size_t n);
uint32_t crc_of_plain (const void *p, size_t n);	/* the same without special instructions; for tests */

#endif
