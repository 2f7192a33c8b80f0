/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the nearest known word to a mistyped one. */
#ifndef COMMON_SUGGEST_H
#define COMMON_SUGGEST_H

/* Edit distance (insert, delete, replace, swap of neighbours), case ignored. Words over 96 characters are far from
 * everything. */
int suggest_distance (const char *a, const char *b);

/* Offer candidates one by one to { word, NULL, 0 }; `best` (borrowed) becomes the nearest that is worth naming. */
struct suggest { const char *word, *best; int distance; };
void suggest_offer (struct suggest *s, const char *candidate);

#endif
