/* SPDX-License-Identifier: Apache-2.0 */
/* Connections are refused before descriptors run out. libzmq aborts the process when accept4(2) on an ipc socket says EMFILE (4.3.4,
 * ipc_listener.cpp), so whoever may connect could end it: a function in a container has the socket of its worker. libzmq has no bound for this,
 * so its call finds the accept4 of this file, which the program exports, in place of the C library's.
 *
 * The lowest descriptor that was free says how many are open. What is taken and closed at once leaves the queue of the listening socket, which
 * would wake libzmq again and again otherwise; the reserve is for all else that the process has to open. */
#include <errno.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/log.h"
#include "proto/link_internal.h"

#define RESERVE_MAX 256		/* or an eighth of what the process may have, when that is less */

static atomic_int highest;		/* descriptor for a connection; 0 = no bound */

void link_accept_guard (void)
{
	struct rlimit r;
	rlim_t reserve;

	if (getrlimit (RLIMIT_NOFILE, &r) < 0 || r.rlim_cur > INT32_MAX)
		return;
	reserve = r.rlim_cur / 8 < RESERVE_MAX ? r.rlim_cur / 8 : RESERVE_MAX;
	atomic_store (&highest, (int) (r.rlim_cur - reserve));
}

int accept4 (int listener, __SOCKADDR_ARG address, socklen_t *restrict n, int flags)
{
	int fd = (int) syscall (SYS_accept4, listener, address.__sockaddr__, n, flags), most = atomic_load (&highest);

	if (fd < 0 && errno == EMFILE && most)
		errno = EAGAIN;
	if (fd < 0 || !most || fd < most)
		return fd;
	close (fd);
	log_warn ("link", "a connection was refused: the process has nearly as many descriptors as it may have", "open=%d", fd);
	errno = ECONNABORTED;
	return -1;
}
