/* SPDX-License-Identifier: Apache-2.0 */
/* What a shell's completion asks: names of functions, endpoints and profiles. */
#ifndef CLIENT_COMPLETE_H
#define CLIENT_COMPLETE_H

#define COMPLETE_NAMED "FUNCTION ENDPOINT PROFILE"

/* Print what an argument of this kind can be, a line each: within a second, or nothing; never an error. words: the command line so far,
 * NULL-terminated; what it says of the service to ask counts. Returns 0. */
int complete_main (const char *kind, char **words);

#endif
