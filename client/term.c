/* SPDX-License-Identifier: Apache-2.0 */
#include "client/term.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include "common/clock.h"

#define ENTER "\033[?1049h\033[?25l\033[H\033[2J"
#define LEAVE "\033[0m\033[?25h\033[?1049l"

static struct termios was;
static bool opened;
static volatile sig_atomic_t ended, resized;

static void put (const char *s, size_t n)
{
	while (n) {
		ssize_t k = write (1, s, n);
		if (k < 0 && errno != EINTR && errno != EAGAIN)
			return;
		if (k > 0) {
			s += k;
			n -= (size_t)k;
		}
	}
}

static void raw (void)
{
	struct termios t = was;
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	tcsetattr (0, TCSANOW, &t);
	put (ENTER, strlen (ENTER));
}

static void cooked (void)
{
	put (LEAVE, strlen (LEAVE));
	tcsetattr (0, TCSANOW, &was);
}

static void on_end (int signo)
{
	(void)signo;
	ended = 1;
}

static void on_resize (int signo)
{
	(void)signo;
	resized = 1;
}

/* Ctrl-Z: the shell gets its own screen, and we ours when we go on. */
static void on_stop (int signo)
{
	(void)signo;
	cooked ();
	raise (SIGSTOP);
	raw ();
	resized = 1;
}

bool term_possible (void)
{
	const char *term = getenv ("TERM");
	return isatty (0) && isatty (1) && term && *term && strcmp (term, "dumb") != 0;
}

void term_open (void)
{
	static const struct { int signo; void (*f) (int); } handlers[] = { { SIGINT, on_end }, { SIGTERM, on_end }, { SIGHUP, on_end },
									   { SIGWINCH, on_resize }, { SIGTSTP, on_stop } };
	if (opened || tcgetattr (0, &was) < 0)
		return;
	for (size_t i = 0; i < sizeof (handlers) / sizeof (handlers[0]); i++) {
		struct sigaction a = { .sa_handler = handlers[i].f };
		sigaction (handlers[i].signo, &a, NULL);
	}
	opened = true;
	atexit (term_close);
	raw ();
}

void term_close (void)
{
	if (opened)
		cooked ();
	opened = false;
}

void term_size (int *rows, int *cols)
{
	struct winsize w = { 0 };
	ioctl (1, TIOCGWINSZ, &w);
	*rows = w.ws_row ? w.ws_row : 24;
	*cols = w.ws_col ? w.ws_col : 80;
}

/* One line, at most cols characters. Bytes of one UTF-8 sequence count as one; C1 controls come as 0xc2 0x80..0x9f. */
static void add_line (struct buf *b, const char *p, size_t n, int cols)
{
	bool title = n && *p == TERM_TITLE[0];
	if (title) {
		buf_str (b, "\033[7m");
		p++;
		n--;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];
		bool next = (c & 0xc0) == 0x80;
		if (!next && cols-- <= 0)
			break;
		if (c == 0xc2 && i + 1 < n && (unsigned char)p[i + 1] < 0xa0) {
			buf_char (b, '?');
			i++;
		} else
			buf_char (b, c < 0x20 || c == 0x7f ? '?' : (char)c);
	}
	for (; title && cols > 0; cols--)
		buf_char (b, ' ');
	buf_str (b, title ? "\033[0m" : "\033[K");
}

void term_draw (const struct buf *text)
{
	const char *p = (const char *)text->data, *end = p + text->len;
	struct buf b;
	int rows, cols;
	term_size (&rows, &cols);
	buf_init (&b, 0);
	buf_str (&b, "\033[H");
	for (int row = 0; row < rows && p < end; row++) {
		const char *nl = memchr (p, '\n', (size_t)(end - p));
		if (row)
			buf_str (&b, "\r\n");
		add_line (&b, p, (size_t)((nl ? nl : end) - p), cols);
		p = nl ? nl + 1 : end;
	}
	buf_str (&b, "\033[J");
	put ((const char *)b.data, b.len);
	buf_fini (&b);
}

int term_wait (int64_t ms)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };
	int64_t until = clock_now_ms () + ms, left;
	while (!ended && !resized && (left = until - clock_now_ms ()) > 0) {
		unsigned char c = 0;
		int n = poll (&p, 1, (int)left);
		if (n > 0 && read (0, &c, 1) <= 0)
			return -1;
		if (n > 0)
			return c == 'q' || c == 'Q' || c == 3 ? -1 : c;
	}
	resized = 0;
	return ended ? -1 : 0;
}
