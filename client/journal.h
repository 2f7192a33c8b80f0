/* SPDX-License-Identifier: Apache-2.0 */
/* The record of `weft run --map --resume FILE`: which task a line of the input became. A run that was cut off, by whatever, is taken
 * up from it: what was submitted is not submitted again.
 *
 * The file has a JSON object a line: first what the run is ({"weft_map": 1, ...}), then for each submission its intent, before the request, and
 * its tasks, after the answer. The key of the request follows from the intent, so an answer that got lost is asked for again. A torn last
 * line is an intent or an answer that never was. Items are the lines that are not blank, from 0. */
#ifndef CLIENT_JOURNAL_H
#define CLIENT_JOURNAL_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"
#include "common/ids.h"

struct journal;
/* Opens, and locks, or makes it. function and endpoint must be those it was begun with. */
struct journal *journal_open (const char *path, const char *function, const char *endpoint, struct err *err);
void journal_close (struct journal **j);
/* The task of an item, with the sum of its line; false: none yet. */
bool journal_task (const struct journal *j, uint64_t item, struct id *task, uint32_t *sum);
uint64_t journal_tasks (const struct journal *j);
/* A submission without an answer: it must be made as it was, n items from first. false: none. */
bool journal_open_intent (const struct journal *j, uint64_t *first, size_t *n);
const char *journal_group (const struct journal *j);	/* borrowed; NULL before the first answer */
/* The Idempotency-Key of a submission. */
void journal_key (const struct journal *j, uint64_t first, size_t n, char out[80]);
int journal_intend (struct journal *j, uint64_t first, size_t n, struct err *err);
/* ids: texts; sums: of the lines. The intent before is settled. */
int journal_settle (struct journal *j, uint64_t first, const json_t *ids, const uint32_t *sums, const char *group, struct err *err);
uint32_t journal_sum (const char *line, size_t n);

#endif
