// SPDX-License-Identifier: Apache-2.0
// Endpoints: all of them with their figures, and one.

import { get } from "./api.js";
import { h, redraw, styled } from "./dom.js";
import { ago, count, id, shortId, state, when } from "./format.js";
import { table } from "./table.js";
import { recent } from "./tasks.js";

const LIST_MS = 4000, ONE_MS = 3000;
const online = (e) => e.status === "online";
const busy = (d) => Math.max (0, (d.total_workers ?? 0) - (d.idle_workers ?? 0));

function workers (e)
{
	const d = e.details;

	if (!online (e))
		return "—";
	return h ("span", { class: "gauge" }, `${busy (d)} of ${d.total_workers} busy`,
		h ("span", { class: "track", "aria-hidden": "true" },
			styled (h ("span", { class: "fill" }), { width: `${d.total_workers ? 100 * busy (d) / d.total_workers : 0}%` })));
}

function blocks (d)
{
	if (d.blocks === undefined)
		return "—";
	return d.pending_blocks ? `${d.blocks} (${d.pending_blocks} starting)` : String (d.blocks);
}

export const list = {
	title: "Endpoints",
	show (main, params, query, tools)
	{
		const view = table ({
			caption: "Endpoints that you may use",
			key: (e) => e.uuid,
			empty: "There is no endpoint yet. On the computer that is to run tasks: weft-endpoint configure NAME, then weft-endpoint start NAME.",
			columns: [
				{ head: "Name", cell: (e) => h ("a", { href: `#/endpoints/${e.uuid}` }, e.display_name || e.name) },
				{ head: "State", cell: (e) => state (e.status) },
				{ head: "Workers", cell: workers },
				{ head: "Queue", class: "num", cell: (e) => count (e.details.pending_tasks ?? 0) },
				{ head: "Blocks", class: "num wide", cell: (e) => blocks (e.details) },
				{ head: "Version", class: "wide", cell: (e) => e.details.version ?? "—" },
				{ head: "Last seen", class: "mid", cell: (e) => ago (e.details.last_seen) },
			],
		});
		let before = null;

		main.append (h ("h1", {}, "Endpoints"), view.element);
		tools.live (LIST_MS, async (signal) => {
			const rows = (await get ("v3/endpoints?role=any&limit=1000&details=1", { signal })).endpoints;
			const up = rows.filter (online).length, text = `${up} of ${rows.length} endpoints online`;
			rows.sort ((a, b) => online (b) - online (a));
			view.update (rows);
			if (text !== before)
				tools.say (text);
			before = text;
		});
	},
};

function facts (e, st)
{
	const d = st.details, rows = [
		["Workers", workers ({ status: st.status, details: d })],
		["Running", count (d.running ?? 0)],
		["Waiting", count (d.pending_tasks ?? 0)],
		["Blocks", blocks (d)],
		["Managers", d.managers],
		["Tasks done", d.tasks_done === undefined ? "—" : `${count (d.tasks_done)} since it started`],
		["Last seen", ago (d.last_seen)],
		["Weft", d.version ?? e.endpoint_version ?? "—"],
		["Python", e.python_version ?? "—"],
		["Host", e.hostname ?? "—"],
		["User there", e.local_user ?? "—"],
		["Registered", when (e.created)],
		["Who may use it", e.public ? "everybody" : "its owner, and those it is shared with"],
		["Functions", e.restricted ? "only those that are allowed" : "any"],
		["Id", id (e.uuid)],
	];

	return h ("dl", { class: "facts" }, rows.map (([k, v]) => h ("div", {}, h ("dt", {}, k), h ("dd", {}, v === 0 ? "0" : v || "—"))));
}

export const one = {
	title: "Endpoint",
	show (main, [uuid], query, tools)
	{
		const head = h ("h1", {}, "Endpoint ", shortId (uuid)), now = h ("div"), list = recent ({ endpoint: uuid }, tools);
		const path = encodeURIComponent (uuid);
		let e = null, before = null;

		main.append (h ("p", { class: "up" }, h ("a", { href: "#/endpoints" }, "Endpoints")), head, now,
			h ("p", { class: "more" }, h ("a", { href: `#/usage?endpoint=${path}` }, "How much it was used")), list.element);
		tools.live (ONE_MS, async (signal) => {
			if (!e) {
				e = await get (`v3/endpoints/${path}`, { signal });
				tools.title (e.display_name || e.name);
			}
			const st = await get (`v3/endpoints/${path}/status`, { signal });
			redraw (head, e.display_name || e.name, " ", state (st.status));
			redraw (now, st.details.waiting_reason && h ("p", { class: "note" }, `Tasks wait: ${st.details.waiting_reason}`), facts (e, st));
			if (before && before !== st.status)
				tools.say (`The endpoint is ${st.status}`);
			before = st.status;
			await list.update (signal);
		});
	},
};
