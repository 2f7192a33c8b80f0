/* SPDX-License-Identifier: Apache-2.0 */
/* Functions in shared objects: the only header they need.
 *
 *     #include "weft_function.h"
 *
 *     int weft_function (const struct weft_in *in, struct weft_out *out)
 *     {
 *         return weft_write (out, in->data, in->size);    // an echo
 *     }
 *
 * Build: cc -shared -fPIC -o echo.so echo.c. Register the file as kind shared_object; the entry is the symbol's name,
 * "weft_function" when none is given. The object stays loaded between calls: keep models and tables in static variables.
 *
 * Return 0 for success; then what was written is the result (text in UTF-8; other bytes are handed on as base64). Any other value
 * fails the task, with the text of weft_error. Calls come one at a time. A crash or an exit ends the process, not the worker: the
 * task fails, and the object is loaded anew for the next call.
 *
 * getenv finds the worker's environment, WEFT_TASK_ID and GC_TASK_UUID (of a batch: of its first task), and for a task that has nodes of its own
 * PARSL_MPI_PREFIX and its kin. What it gives is valid during the call; what a call sets or unsets is put back after it, and so is the working
 * directory. What the object sets while it is loaded, in a constructor, stays. */
#ifndef WEFT_FUNCTION_H
#define WEFT_FUNCTION_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WEFT_FUNCTION_ABI 1

struct weft_in {
	uint32_t abi;			/* WEFT_FUNCTION_ABI of the worker: later versions append fields only */
	uint32_t payload_is_json;	/* the payload is JSON text that the service made or checked */
	const uint8_t *data;		/* the payload, followed by a 0 byte that does not count; valid during the call */
	size_t size;
	const char *task_id;		/* 36 characters */
	const char *entry;		/* the symbol that was called */
};

struct weft_out {
	uint32_t abi;
	uint32_t reserved;
	void *self;			/* of the worker */
	/* Append to the result; -1 when it is over the limit or there is no memory: give up then. */
	int (*write) (struct weft_out *out, const void *data, size_t size);
	/* Say why the call fails (UTF-8); the last text counts. */
	void (*error) (struct weft_out *out, const char *text);
};

typedef int weft_function_f (const struct weft_in *in, struct weft_out *out);

static inline int weft_write (struct weft_out *out, const void *data, size_t size) { return out->write (out, data, size); }
static inline int weft_puts (struct weft_out *out, const char *text) { return out->write (out, text, strlen (text)); }
/* return weft_fail (out, "why"); */
static inline int weft_fail (struct weft_out *out, const char *text)
{
	out->error (out, text);
	return -1;
}

/* A function that is registered with batches may have a second symbol, its name with "_batch" behind it: it gets the n inputs of a call at once and
 * writes to out[i] what in[i] gives. weft_fail (&out[i], "why") fails that input only; any return value but 0 fails all that have not
 * failed. Without this symbol the function is called for one input after the other. */
typedef int weft_batch_f (const struct weft_in *in, struct weft_out *out, size_t n);

#endif
