/* SPDX-License-Identifier: Apache-2.0 */
/* What a manager has said of the images of functions (IMAGE: SPEC.md, 3.3): which one a call would run from on its node now. */
#ifndef ENDPOINT_IMAGES_H
#define ENDPOINT_IMAGES_H
#include <stdint.h>
#include "common/ids.h"
#include "proto/msg_capacity.h"

enum { IMAGES_ANSWER_MS = 5000 };	/* an answer that takes longer does not come */

enum images_state {
	IMAGES_UNKNOWN,		/* to be asked */
	IMAGES_ASKED,		/* and not answered yet */
	IMAGES_NONE,		/* it cannot be told */
	IMAGES_KNOWN,
};

struct images;
struct images *images_create (void);
void images_destroy (struct images **im);
void images_note (struct images *im, const struct msg_image *m, int64_t now_ms);
void images_asked (struct images *im, const struct id *function, int64_t now_ms);
void images_forget (struct images *im, const struct id *function);	/* it is another function now */
enum images_state images_get (const struct images *im, const struct id *function, int64_t now_ms, struct id *image);

#endif
