// SPDX-License-Identifier: Apache-2.0
// One's functions, and one of them with its code.

import { get, query as encode } from "./api.js";
import { h, redraw } from "./dom.js";
import { bytes, duration, id, shortId, when } from "./format.js";
import { table } from "./table.js";
import { recent } from "./tasks.js";

const LIVE_MS = 10000, PAGE = 100, CODE_MAX = 100000;
const image = (f) => typeof f.container === "string" ? f.container : f.container?.image;

export const list = {
	title: "Functions",
	show (main, params, { cursor }, tools)
	{
		const pages = h ("nav", { class: "pages", "aria-label": "Pages" });
		const view = table ({
			caption: "Your functions, newest first",
			key: (f) => f.function_uuid,
			empty: "You have registered no function. weft function register FILE.py::NAME does.",
			columns: [
				{ head: "Name", cell: (f) => h ("a", { href: `#/functions/${f.function_uuid}` }, f.function_name) },
				{ head: "Kind", cell: (f) => f.kind },
				{ head: "Registered", cell: (f) => when (f.created) },
				{ head: "Container", class: "mid", cell: (f) => image (f) ?? "—" },
				{ head: "Who may use it", class: "wide", cell: (f) => f.public ? "everybody" : "you" },
				{ head: "Description", class: "wide", cell: (f) => f.description ?? "—" },
			],
		});

		main.append (h ("h1", {}, "Functions"), view.element, pages);
		tools.live (LIVE_MS, async (signal) => {
			const found = await get (`v3/functions?${encode ({ limit: PAGE, cursor })}`, { signal });
			view.update (found.functions);
			redraw (pages, cursor && h ("a", { class: "button", href: "#/functions" }, "Newest"),
				found.next_cursor && h ("a", { class: "button", href: `#/functions?${encode ({ cursor: found.next_cursor })}` }, "Older"));
			pages.hidden = !pages.children.length;
		});
	},
};

function facts (f)
{
	const rows = [
		["Kind", f.kind],
		["Entry", f.entry],
		["Description", f.description],
		["Container", image (f)],
		["Time limit", f.limits?.time_limit_s && duration (f.limits.time_limit_s * 1e6)],
		["Memory limit", f.limits?.memory_limit_bytes && bytes (f.limits.memory_limit_bytes)],
		["Memoised", f.memoize && "equal calls may be answered from earlier ones"],
		["Batch", f.batch && `up to ${f.batch.max} inputs a call`],
		["Registered", when (f.created)],
		["Who may use it", f.public ? "everybody" : "you"],
		["Id", id (f.function_uuid)],
	].filter (([, v]) => v);

	return h ("dl", { class: "facts" }, rows.map (([k, v]) => h ("div", {}, h ("dt", {}, k), h ("dd", {}, v))));
}

function code (f)
{
	const text = f.function_code ?? "";
	const readable = f.kind === "python" || f.kind === "command";

	return h ("section", { "aria-labelledby": "code" }, h ("h2", { id: "code" }, "Code"),
		readable ? h ("pre", { tabindex: "0", role: "region", "aria-label": "Code", "data-key": "code" }, text.slice (0, CODE_MAX))
			: h ("p", { class: "muted" }, `${f.kind === "globus" ? "A serialised Python function" : "A shared object"}, ${bytes (text.length)}.`));
}

export const one = {
	title: "Function",
	show (main, [uuid], query, tools)
	{
		const head = h ("h1", {}, "Function ", shortId (uuid)), body = h ("div"), list = recent ({ function: uuid }, tools);
		let known = false;

		main.append (h ("p", { class: "up" }, h ("a", { href: "#/functions" }, "Functions")), head, body, list.element);
		tools.live (LIVE_MS, async (signal) => {
			if (!known) {
				const f = await get (`v3/functions/${encodeURIComponent (uuid)}`, { signal });
				redraw (head, f.function_name);
				redraw (body, facts (f), code (f));
				tools.title (f.function_name);
				known = true;
			}
			await list.update (signal);
		});
	},
};
