/* SPDX-License-Identifier: Apache-2.0 */
/* See offers.h. */
#include "service/offers.h"
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "common/pythons.h"

json_t *offers_read (const char *metadata)
{
	bool says = metadata && (strstr (metadata, "\"containers\"") || strstr (metadata, "\"pythons\"") || strstr (metadata, "\"files\"") ||
				 strstr (metadata, "\"mpi\""));
	json_t *all = says ? json_loads (metadata, 0, NULL) : NULL, *o = all ? json_object () : NULL;

	if (json_is_array (json_object_get (all, "containers"))) {
		json_object_set (o, "containers", json_object_get (all, "containers"));
		json_object_set (o, "network", json_object_get (all, "container_network"));
		json_object_set (o, "images", json_object_get (all, "container_images"));
	}
	if (json_array_size (json_object_get (all, "pythons")))
		json_object_set (o, "pythons", json_object_get (all, "pythons"));
	if (json_is_object (json_object_get (all, "files")))
		json_object_set (o, "files", json_object_get (all, "files"));
	if (json_is_object (json_object_get (all, "mpi")))
		json_object_set (o, "mpi", json_object_get (all, "mpi"));
	json_decref (all);
	return o;
}

/* The list's texts, with commas. */
static const char *words (const json_t *list, char *out, size_t room)
{
	size_t i, n = 0;
	json_t *v;

	out[0] = 0;
	json_array_foreach (list, i, v)
		if (n < room && json_is_string (v))
			n += (size_t) snprintf (out + n, room - n, "%s%s", i ? ", " : "", json_string_value (v));
	return out;
}

static bool has (const json_t *list, const char *name)
{
	size_t i;
	json_t *v;

	json_array_foreach (list, i, v)
		if (json_is_string (v) && strcmp (json_string_value (v), name) == 0)
			return true;
	return false;
}

static bool matches (const json_t *patterns, const char *image)
{
	size_t i;
	json_t *v;

	json_array_foreach (patterns, i, v)
		if (json_is_string (v) && fnmatch (json_string_value (v), image, 0) == 0)
			return true;
	return false;
}

int offers_check (const json_t *offers, const char *image, const json_t *options, struct err *err)
{
	const json_t *list = json_object_get (offers, "containers"), *images = json_object_get (offers, "images");
	const json_t *c = json_object_get (options, "container");
	const char *type;
	char text[256];
	int rc = 0;

	if (!image || !list)
		return 0;
	if (!json_array_size (list))
		return err_set (err, ERR_INVALID, FAULT_USER, "the function wants the container %.150s; this endpoint runs no containers", image);
	type = json_string_value (json_object_get (c, "type"));
	if (type && !has (list, type))
		rc = err_set (err, ERR_INVALID, FAULT_USER, "the function wants a container of type %s; this endpoint offers: %s", type,
			      words (list, text, sizeof (text)));
	else if (json_is_true (json_object_get (c, "network")) && !json_is_true (json_object_get (offers, "network")))
		rc = err_set (err, ERR_INVALID, FAULT_USER, "the function's container asks for network; this endpoint offers containers without (%s)",
			      words (list, text, sizeof (text)));
	else if (json_array_size (images) && !matches (images, image))
		rc = err_set (err, ERR_INVALID, FAULT_USER, "image %.120s is not permitted on this endpoint, which offers: %s", image,
			      words (images, text, sizeof (text)));
	return rc;
}

bool offers_has_python (const json_t *offers, uint16_t version)
{
	const json_t *list = json_object_get (offers, "pythons");
	char text[8];

	return !version || !list || has (list, python_version_text (version, text));
}

const char *offers_pythons (const json_t *offers, char *out, size_t room)
{
	return words (json_object_get (offers, "pythons"), out, room);
}

int offers_files (const json_t *offers, bool keep, struct err *err)
{
	const json_t *files = json_object_get (offers, "files");

	if (json_is_object (files) && (!keep || json_is_integer (json_object_get (files, "keep_max_bytes"))))
		return 0;
	if (json_is_object (files))
		return err_set (err, ERR_INVALID, FAULT_USER, "the task wants to leave files on the endpoint; this one has no directory for them "
				"(files.output_dir is not set there, or its version does not know it)");
	return err_set (err, ERR_INVALID, FAULT_USER, "the task wants files by URL; this endpoint brings none (files.cache_bytes is 0 there, or its "
			"version does not know of files)");
}

int offers_nodes (const json_t *offers, unsigned nodes, struct err *err)
{
	const json_t *mpi = json_object_get (offers, "mpi");
	json_int_t most = json_integer_value (json_object_get (mpi, "nodes_per_block"));

	if (!mpi)
		return err_set (err, ERR_INVALID, FAULT_USER, "resource_specification: this endpoint gives no nodes to single tasks (mpi_launcher is not "
				"set there, or its version does not know of them)");
	if (nodes > most)
		return err_set (err, ERR_INVALID, FAULT_USER, "resource_specification: the task asks for %u nodes, and blocks of this endpoint have %lld",
				nodes, (long long) most);
	return 0;
}
