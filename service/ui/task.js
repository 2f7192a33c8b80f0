// SPDX-License-Identifier: Apache-2.0
// One task: how it ended and why, what it wrote, where its time went.

import { get } from "./api.js";
import { h, redraw, styled } from "./dom.js";
import { bytes, duration, id, shortId, state, when } from "./format.js";
import { learn, nameOf } from "./names.js";

const LIVE_MS = 1000, WAIT_S = 20;
const TEXT_MAX = 100000;	/* more of a text than this is of no use on a page */
const ENDED = ["success", "failed", "cancelled"];

const FAULTS = {
	user: "the function, or what it was given",
	site: "the place where it ran",
	peer: "another system that it depends on",
	self: "Weft itself",
};
const STEPS = {
	accept: "accepted", queue: "waits in the queue", forward: "taken by the forwarder", to_endpoint: "to the endpoint", route: "waits for a worker",
	to_manager: "to the node", place: "given to a worker", to_worker: "to the worker", start: "prepared", execution: "the function runs",
	collect: "result taken", from_worker: "result leaves the worker", from_manager: "result leaves the node", from_endpoint: "result to the forwarder",
	store_and_wake: "stored, caller woken", memo: "answered from an earlier call",
};

function text (key, label, content)
{
	const cut = content.length > TEXT_MAX;

	return [h ("pre", { tabindex: "0", role: "region", "aria-label": label, "data-key": key }, cut ? content.slice (0, TEXT_MAX) : content),
		cut && h ("p", { class: "muted" }, `The first ${TEXT_MAX.toLocaleString ("en")} of ${content.length.toLocaleString ("en")} characters.`)];
}

function section (key, title, ...content)
{
	return h ("section", { "aria-labelledby": `h-${key}` }, h ("h2", { id: `h-${key}` }, title), content);
}

function facts (t)
{
	const rows = [
		["Function", h ("a", { href: `#/functions/${t.function_id}`, title: t.function_id }, nameOf ("function", t.function_id) ?? shortId (t.function_id))],
		["Endpoint", h ("a", { href: `#/endpoints/${t.endpoint_id}`, title: t.endpoint_id }, nameOf ("endpoint", t.endpoint_id) ?? shortId (t.endpoint_id))],
		["Submitted", when (t.submitted)],
		["Ended", t.completion_t && when (new Date (Number (t.completion_t) * 1000).toISOString ())],
		["Node", t.node],
		["Started again", t.attempt > 0 && `${t.attempt} times`],
		["Processor time", t.cpu_s !== undefined && duration (t.cpu_s * 1e6)],
		["Memory, most", t.max_rss_bytes !== undefined && bytes (t.max_rss_bytes)],
		["From an earlier call", t.memoised && "yes, memoised"],
		["Python", t.details?.python_version],
		["Task group", h ("a", { href: `#/tasks?group=${t.task_group_id}`, class: "id" }, t.task_group_id)],
		["Id", id (t.task_id)],
	].filter (([, v]) => v);

	return h ("dl", { class: "facts" }, rows.map (([k, v]) => h ("div", {}, h ("dt", {}, k), h ("dd", {}, v))));
}

function failure (t)
{
	if (t.status === "cancelled")
		return section ("error", "Cancelled", h ("p", {}, t.reason ?? "the task was cancelled"));
	if (t.status !== "failed")
		return null;
	return section ("error", "Error",
		h ("p", { class: "cause" }, h ("strong", {}, t.code ?? "FAILED"), t.fault && FAULTS[t.fault] && ` — the cause is ${FAULTS[t.fault]}`,
			t.exit_detail !== undefined && ` (exit status or signal ${t.exit_detail})`),
		text ("error", "Error text", t.exception ?? t.reason ?? ""));
}

function result (t)
{
	if (t.status !== "success")
		return null;
	return section ("result", t.result_encoding === "base64" ? "Result, in base64" : "Result", text ("result", "Result", t.result ?? ""));
}

function output (t)
{
	return ["stdout", "stderr"].filter ((k) => t[k]).map ((k) => section (k, k, text (k, k, t[k])));
}

/* A row a span, on one scale. The table is the data; the bars repeat it for the eye. */
function waterfall (trace)
{
	const total = trace.total_us || 1;
	let at = 0;

	const rows = trace.spans.map ((x) => {
		const from = at;
		at += x.us;
		const bar = styled (h ("span", { class: `bar ${x.process}` }), { left: `${100 * Math.min (from, total) / total}%`, width: `${100 * Math.max (0, x.us) / total}%` });
		return h ("tr", {}, h ("th", { scope: "row" }, STEPS[x.name] ?? x.name), h ("td", { class: "mid" }, x.process), h ("td", { class: "num" }, duration (x.us)),
			h ("td", { class: "lane", "aria-hidden": "true" }, h ("span", { class: "track" }, bar)));
	});
	return section ("trace", "Where the time went",
		h ("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Trace" },
			h ("table", { class: "trace" }, h ("caption", {}, `${duration (trace.total_us)} in all${trace.memoised ? ", answered from an earlier call" : ""}`),
				h ("thead", {}, h ("tr", {}, h ("th", { scope: "col" }, "Step"), h ("th", { scope: "col", class: "mid" }, "Who"),
					h ("th", { scope: "col", class: "num" }, "Took"), h ("td", { class: "lane", "aria-hidden": "true" }))),
				h ("tbody", {}, rows))));
}

function pending (t)
{
	return h ("p", { class: "note" }, t.waiting_reason ? `It waits: ${t.waiting_reason}` : t.status === "running" ? "It is running; this page shows its end when it comes."
		: "It waits for its turn; this page shows its end when it comes.");
}

export const one = {
	title: "Task",
	show (main, [uuid], query, tools)
	{
		const head = h ("h1", {}, "Task ", shortId (uuid)), body = h ("div"), path = `v3/tasks/${encodeURIComponent (uuid)}`;
		let shown = null, trace = null;

		main.append (h ("p", { class: "up" }, h ("a", { href: "#/tasks" }, "Tasks")), head, body);
		tools.title (`Task ${shortId (uuid)}`);

		function draw (t)
		{
			const ended = ENDED.includes (t.status);
			redraw (head, "Task ", shortId (uuid), " ", state (t.status));
			redraw (body, !ended && pending (t), failure (t), facts (t), output (t), result (t), trace && trace.spans.length > 0 && waterfall (trace));
			if (t.status !== shown)
				tools.say (`The task is ${t.status}`);
			shown = t.status;
		}

		/* The first answer at once; then the service answers when the task ends. */
		tools.live (LIVE_MS, async (signal) => {
			if (ENDED.includes (shown) && trace)
				return;
			const t = await get (shown ? `${path}?wait=${WAIT_S}` : path, { signal });
			await Promise.all ([learn ("function", [t.function_id], signal), learn ("endpoint", [t.endpoint_id], signal)]);
			if (ENDED.includes (t.status))
				trace = await get (`${path}/trace`, { signal });
			draw (t);
		});
	},
};
