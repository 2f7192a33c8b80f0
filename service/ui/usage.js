// SPDX-License-Identifier: Apache-2.0
// How much endpoints were used: by the hour, or by the reader's own days.

import { get, query as encode } from "./api.js";
import { h, redraw, styled } from "./dom.js";
import { count, dayOf, duration, shortId } from "./format.js";
import { all, learn, nameOf } from "./names.js";
import { table } from "./table.js";

const LIVE_MS = 15000, HOUR_MS = 3600000;
const RANGES = { day: ["24 hours", 24], week: ["7 days", 7], month: ["30 days", 30] };

const two = (n) => String (n).padStart (2, "0");

/* The last n hours or days, oldest first: { label, from, tasks, failed, cancelled, ran, run_s }. */
function buckets (range)
{
	const [, n] = RANGES[range], hourly = range === "day", start = new Date (), out = [];

	start.setMinutes (0, 0, 0);
	if (!hourly)
		start.setHours (0);
	for (let i = n - 1; i >= 0; i--) {
		const from = new Date (start);
		if (hourly)
			from.setTime (start.getTime () - i * HOUR_MS);
		else
			from.setDate (start.getDate () - i);
		out.push ({ from, label: hourly ? `${two (from.getHours ())}:00` : dayOf (from), tasks: 0, failed: 0, cancelled: 0, ran: 0, run_s: 0 });
	}
	return out;
}

function put (into, hours)
{
	for (const x of hours) {
		const at = new Date (x.hour), b = into.findLast ((y) => y.from <= at);
		if (!b)
			continue;
		for (const k of ["tasks", "failed", "cancelled", "ran"])
			b[k] += x[k];
		b.run_s += (x.mean_s ?? 0) * x.ran;
	}
	return into;
}

const mean = (b) => b.ran ? duration (1e6 * b.run_s / b.ran) : "—";
const share = (b) => b.tasks ? ` (${(100 * b.failed / b.tasks).toPrecision (2)} %)` : "";

function total (list)
{
	const sum = { tasks: 0, failed: 0, cancelled: 0, ran: 0, run_s: 0 };

	for (const b of list)
		for (const k of Object.keys (sum))
			sum[k] += b[k];
	return sum;
}

/* The table below has the same figures: this is for the eye alone. */
function chart (list)
{
	const top = Math.max (1, ...list.map ((b) => b.tasks)), every = Math.ceil (list.length / 8);
	const part = (kind, n) => n > 0 && styled (h ("span", { class: kind }), { height: `${100 * n / top}%` });

	return h ("div", { class: "chart", "aria-hidden": "true" }, h ("p", { class: "top" }, `${count (top)} tasks`),
		h ("div", { class: "columns" }, list.map ((b, i) => h ("div", { class: "column", title: `${b.label}: ${count (b.tasks)} tasks, ${count (b.failed)} failed` },
			h ("div", { class: "stack" }, part ("failed", b.failed), part ("cancelled", b.cancelled), part ("fine", b.tasks - b.failed - b.cancelled)),
			h ("span", { class: i % (2 * every) ? "tick mid" : "tick" }, i % every === 0 ? b.label : "")))),
		h ("p", { class: "legend" }, h ("span", { class: "key fine" }), "succeeded ", h ("span", { class: "key failed" }), "failed ",
			h ("span", { class: "key cancelled" }), "cancelled"));
}

function summary (sum)
{
	return h ("dl", { class: "facts" }, [
		["Tasks that ended", count (sum.tasks)],
		["Failed", count (sum.failed) + share (sum)],
		["Cancelled", count (sum.cancelled)],
		["Mean time of running", mean (sum)],
	].map (([k, v]) => h ("div", {}, h ("dt", {}, k), h ("dd", {}, v))));
}

export const list = {
	title: "Usage",
	show (main, params, query, tools)
	{
		const range = query.range in RANGES ? query.range : "day";
		const ep = h ("select", { id: "of-endpoint" }, h ("option", { value: query.endpoint ?? "" }, query.endpoint ? shortId (query.endpoint) : "all of yours"));
		const time = h ("select", { id: "of-range" }, Object.entries (RANGES).map (([k, [text]]) => h ("option", { value: k, selected: k === range }, `last ${text}`)));
		const form = h ("form", { class: "filter", "aria-label": "What is shown", submit: (e) => (e.preventDefault (), tools.go ({ endpoint: ep.value, range: time.value })) },
			h ("div", {}, h ("label", { for: "of-endpoint" }, "Endpoint"), ep), h ("div", {}, h ("label", { for: "of-range" }, "Time"), time),
			h ("div", { class: "buttons" }, h ("button", { type: "submit" }, "Show")));
		const view = table ({
			caption: range === "day" ? "By the hour, newest first" : "By the day, newest first",
			key: (b) => b.from.getTime (),
			empty: "No task has ended in this time.",
			columns: [
				{ head: range === "day" ? "Hour" : "Day", cell: (b) => h ("time", { datetime: b.from.toISOString () }, b.label) },
				{ head: "Tasks", class: "num", cell: (b) => count (b.tasks) },
				{ head: "Failed", class: "num", cell: (b) => count (b.failed) + share (b) },
				{ head: "Cancelled", class: "num mid", cell: (b) => count (b.cancelled) },
				{ head: "Mean time", class: "num", cell: mean },
			],
		});
		const sums = h ("div", { class: "usage" });
		let named = false, told = null;

		async function names (signal)
		{
			const map = await all ("endpoint", signal);
			if (query.endpoint)
				await learn ("endpoint", [query.endpoint], signal);
			ep.replaceChildren (h ("option", { value: "" }, "all of yours"), ...[...map].filter (([, name]) => name).map (([id, name]) => h ("option", { value: id }, name)));
			if (query.endpoint && !nameOf ("endpoint", query.endpoint))
				ep.append (h ("option", { value: query.endpoint }, query.endpoint));
			ep.value = query.endpoint ?? "";
		}

		main.append (h ("h1", {}, "Usage"), form, sums, view.element);
		tools.live (LIVE_MS, async (signal) => {
			if (!named)
				await names (signal);
			named = true;
			/* a day more than is shown: the reader's days are not those of UTC */
			const found = await get (`v3/usage?${encode ({ endpoint: query.endpoint, days: RANGES[range][1] === 24 ? 2 : RANGES[range][1] + 1 })}`, { signal });
			const list = put (buckets (range), found.hours), sum = total (list), text = `${count (sum.tasks)} tasks, ${count (sum.failed)} failed`;
			redraw (sums, summary (sum), sum.tasks > 0 && chart (list), found.truncated && h ("p", { class: "note" }, `These are your newest ${found.endpoints} endpoints.`));
			view.update (list.filter ((b) => b.tasks).reverse ());
			if (text !== told)
				tools.say (text);
			told = text;
		});
	},
};
