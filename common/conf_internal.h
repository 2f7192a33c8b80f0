/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by conf.c (the tree of a file, loading) and conf_field.c (one value into its field). Nobody else includes this. */
#ifndef COMMON_CONF_INTERNAL_H
#define COMMON_CONF_INTERNAL_H
#include <yaml.h>
#include "common/conf.h"

struct conf_load {
	const struct conf_key *table;
	const char *name;	/* of the file, or "command line" */
	char *out;
	struct buf report;
	int problems;
	bool *seen;		/* by row: set by the file */
	yaml_document_t *doc;
	bool *visited;		/* by node */
};

/* conf.c */
void conf_problem (struct conf_load *ld, size_t line, const char *key, const char *fmt, ...) __attribute__ ((format (printf, 4, 5)));

/* conf_field.c; what is wrong is reported. */
bool conf_is_list (const struct conf_key *k);
int conf_set_scalar (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s);
void conf_set_node (struct conf_load *ld, const struct conf_key *k, const yaml_node_t *node);
const char *conf_node_string (struct conf_load *ld, const yaml_node_t *node, const char *key);	/* NULL: it is not a plain string */
yaml_node_t *conf_node_get (struct conf_load *ld, int index, const char *key);			/* NULL: an alias led to it a second time, or a tag */
bool conf_node_is_null (const yaml_node_t *node);
int conf_check_length (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s);
void conf_list_push (struct conf_list *l, const char *s);
void conf_list_clear (struct conf_list *l);

#endif
