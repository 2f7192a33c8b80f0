/* SPDX-License-Identifier: Apache-2.0 */
/* Opening what is below a directory, where others may have put anything: no symbolic link is followed on the way. */
#ifndef MANAGER_BENEATH_H
#define MANAGER_BENEATH_H

/* rest: relative, names with single slashes; flags: of the last one, beside those for reading. -1 with errno: ELOOP or ENOTDIR at a link. */
int beneath_open (const char *dir, const char *rest, int flags);

#endif
