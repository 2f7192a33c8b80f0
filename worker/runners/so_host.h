/* SPDX-License-Identifier: Apache-2.0 */
/* The process that loads shared objects and calls them: `weft-worker so-runner DIR`. */
#ifndef WORKER_RUNNERS_SO_HOST_H
#define WORKER_RUNNERS_SO_HOST_H

int so_host_main (int argc, char **argv);

#endif
