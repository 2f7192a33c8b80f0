/* SPDX-License-Identifier: Apache-2.0 */
/* conf_load_text with a table of every type: a failure leaves nothing behind, and says why in whole lines. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include "common/conf.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

struct cfg {
	char *name, *path, *secret;
	int64_t count, timeout_ms, bytes, mode, walltime_s;
	bool on;
	double ratio;
	struct conf_list hosts, labels, tools;
};
#define F(f) offsetof (struct cfg, f)
static const struct conf_key table[] = {
	{ "name", CONF_STRING, F (name), "weft", 1, 64, NULL, false, "" },
	{ "provider.path", CONF_PATH, F (path), NULL, 0, 0, NULL, false, "" },
	{ "provider.slurm.max_blocks", CONF_INT, F (count), "5", 1, 10000, NULL, false, "" },
	{ "limits.timeout", CONF_DURATION_MS, F (timeout_ms), "30s", 1000, 600000, NULL, false, "" },
	{ "provider.slurm.walltime", CONF_WALLTIME_S, F (walltime_s), "01:00:00", 60, 31536000, NULL, false, "" },
	{ "limits.bytes", CONF_SIZE, F (bytes), "10MiB", 0, 0, NULL, false, "" },
	{ "limits.ratio", CONF_DOUBLE, F (ratio), "0.5", 0, 1, NULL, false, "" },
	{ "on", CONF_BOOL, F (on), "true", 0, 0, NULL, false, "" },
	{ "mode", CONF_ENUM, F (mode), "slow", 0, 0, "slow fast", false, "" },
	{ "secret", CONF_SECRET_FILE, F (secret), NULL, 0, 0, NULL, false, "" },
	{ "hosts", CONF_STRING_LIST, F (hosts), "[a, b]", 0, 20, NULL, false, "" },
	{ "labels", CONF_STRING_MAP, F (labels), NULL, 0, 0, NULL, false, "" },
	{ "tools", CONF_STRING_OR_MAP, F (tools), "cc", 0, 20, NULL, false, "" },
	CONF_END
};

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct buf report;
	struct cfg c;
	struct err err;

	buf_init (&report, 0);
	if (conf_load_text (table, "f", (const char *) data, n, NULL, &c, &report, &err) == 0) {
		if (!c.name || c.count < 1 || c.count > 10000 || c.mode < 0 || c.mode > 1 ||
		    c.walltime_s < 60 || c.walltime_s > 31536000 || c.labels.n % 2 || c.tools.n % 2 || report.len)
			abort ();
	} else if (!report.len || report.data[report.len - 1] != '\n' || c.name || c.hosts.v || c.labels.v || c.tools.v || !err.text[0])
		abort ();
	conf_free (table, &c);
	buf_fini (&report);
	return 0;
}
