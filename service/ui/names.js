// SPDX-License-Identifier: Apache-2.0
// Names of functions and endpoints by id: the caller's own all at once, others' one by one when they are met.

import { get } from "./api.js";

const KINDS = {
	endpoint: { list: "v3/endpoints?role=any&limit=1000", rows: "endpoints", one: "v3/endpoints/", name: (o) => o.display_name || o.name, id: (o) => o.uuid },
	function: { list: "v3/functions?limit=1000", rows: "functions", one: "v3/functions/", name: (o) => o.function_name, id: (o) => o.function_uuid },
};
const AGAIN_MS = 30000;
let known = { endpoint: new Map (), function: new Map () };
let listed = { endpoint: 0, function: 0 };

export function forget ()
{
	known = { endpoint: new Map (), function: new Map () };
	listed = { endpoint: 0, function: 0 };
}

/* Map of id -> name of all that are listed. */
export async function all (kind, signal)
{
	const k = KINDS[kind];

	if (Date.now () - listed[kind] > AGAIN_MS) {
		for (const o of (await get (k.list, { signal }))[k.rows])
			known[kind].set (k.id (o), k.name (o));
		listed[kind] = Date.now ();
	}
	return known[kind];
}

/* Learn the names of these ids; nameOf then has them. What cannot be read (deleted, not ours) keeps its id for a name. */
export async function learn (kind, ids, signal)
{
	const map = await all (kind, signal);

	await Promise.all ([...new Set (ids)].filter ((x) => x && !map.has (x)).map (async (x) => {
		try {
			map.set (x, KINDS[kind].name (await get (KINDS[kind].one + encodeURIComponent (x), { signal })));
		} catch (e) {
			if (e.name === "AbortError")
				throw e;
			if (e.status >= 400 && e.status < 500 && e.status !== 429)
				map.set (x, null);
		}
	}));
}

export function nameOf (kind, id)
{
	return known[kind].get (id) || null;
}
