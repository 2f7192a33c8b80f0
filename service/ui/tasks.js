// SPDX-License-Identifier: Apache-2.0
// One's tasks: filtered, page by page; and the short list of the latest ones that other views show.

import { get, query as encode } from "./api.js";
import { h } from "./dom.js";
import { bytes, shortId, state, when } from "./format.js";
import { all, learn, nameOf } from "./names.js";
import { table } from "./table.js";

const LIVE_MS = 3000, PAGE = 50, RECENT = 10;
const PAGES_LOOKED = 5;		/* the service looks at so many tasks a request; a filter may find none among them */
const STATES = ["pending", "running", "success", "failed", "cancelled", "received", "waiting-for-ep", "waiting-for-nodes", "waiting-for-launch"];

function link (kind, id)
{
	return h ("a", { href: `#/${kind}s/${id}`, title: id }, nameOf (kind, id) ?? shortId (id));
}

const columns = {
	task: { head: "Task", cell: (t) => h ("a", { href: `#/tasks/${t.task_id}`, title: t.task_id, class: "mono" }, shortId (t.task_id)) },
	state: { head: "State", cell: (t) => state (t.status) },
	function: { head: "Function", cell: (t) => link ("function", t.function_id) },
	endpoint: { head: "Endpoint", class: "mid", cell: (t) => link ("endpoint", t.endpoint_id) },
	submitted: { head: "Submitted", class: "mid", cell: (t) => when (t.submitted) },
	input: { head: "Input", class: "num wide", cell: (t) => bytes (t.payload_bytes ?? 0) },
};

function taskTable (caption, names, empty, titled = false)
{
	return table ({ caption, key: (t) => t.task_id, empty, titled, columns: names.map ((n) => columns[n]) });
}

/* A page of tasks with the names of what they name. */
async function page (filter, signal)
{
	const found = await get (`v3/tasks?${encode (filter)}`, { signal });

	await Promise.all ([learn ("function", found.tasks.map ((t) => t.function_id), signal), learn ("endpoint", found.tasks.map ((t) => t.endpoint_id), signal)]);
	return found;
}

/* The latest tasks of a function or endpoint. */
export function recent (filter, tools)
{
	const view = taskTable ("Your latest tasks", filter.endpoint ? ["task", "state", "function", "submitted", "input"] : ["task", "state", "endpoint", "submitted", "input"],
		"You have sent it no task that is still remembered.", true);

	return {
		element: h ("section", { "aria-labelledby": "recent" }, h ("h2", { id: "recent" }, "Your latest tasks"), view.element,
			h ("p", {}, h ("a", { href: `#/tasks?${encode (filter)}` }, "All of them"))),
		update: async (signal) => view.update ((await page ({ ...filter, limit: RECENT }, signal)).tasks),
	};
}

function option (value, text, chosen)
{
	return h ("option", { value, selected: value === chosen }, text);
}

function picker (label, name, chosen, options)
{
	const select = h ("select", { id: `by-${name}`, name }, option ("", "any", chosen), options);

	return { label: h ("label", { for: `by-${name}` }, label), select };
}

/* Selects are filled when the names are there; until then they have what the address says. */
async function fillNames (select, kind, chosen, signal)
{
	const map = await all (kind, signal);

	if (chosen)
		await learn (kind, [chosen], signal);
	select.replaceChildren (option ("", "any", chosen), ...[...map].filter (([, name]) => name).sort (([, a], [, b]) => a.localeCompare (b))
		.map (([x, name]) => option (x, `${name} (${shortId (x)})`, chosen)));
	if (chosen && !map.get (chosen))
		select.append (option (chosen, chosen, chosen));
	select.value = chosen ?? "";
}

function filterForm (query, tools)
{
	const status = picker ("State", "status", query.status, STATES.map ((w) => option (w, w, query.status)));
	const fn = picker ("Function", "function", query.function, query.function ? [option (query.function, shortId (query.function), query.function)] : []);
	const ep = picker ("Endpoint", "endpoint", query.endpoint, query.endpoint ? [option (query.endpoint, shortId (query.endpoint), query.endpoint)] : []);
	const group = h ("input", { id: "by-group", name: "group", value: query.group ?? "", placeholder: "id of a task group", spellcheck: "false", size: "24",
		autocomplete: "off" });
	const form = h ("form", { class: "filter", role: "search", "aria-label": "Filter tasks", submit: (e) => (e.preventDefault (), apply ()) },
		[status, fn, ep].map ((p) => h ("div", {}, p.label, p.select)), h ("div", {}, h ("label", { for: "by-group" }, "Group"), group),
		h ("div", { class: "buttons" }, h ("button", { type: "submit" }, "Filter"), h ("a", { href: "#/tasks", class: "button" }, "Clear")));

	function apply ()
	{
		tools.go ({ status: status.select.value, function: fn.select.value, endpoint: ep.select.value, group: group.value.trim () });
	}
	const ready = (signal) => Promise.all ([fillNames (fn.select, "function", query.function, signal), fillNames (ep.select, "endpoint", query.endpoint, signal)]);
	return { form, ready };
}

export const list = {
	title: "Tasks",
	show (main, params, query, tools)
	{
		const { cursor, ...filter } = query, { form, ready } = filterForm (query, tools);
		const filtered = Object.keys (filter).length > 0;
		const view = taskTable ("Your tasks, newest first", ["task", "state", "function", "endpoint", "submitted", "input"],
			filtered || cursor ? "No task fits." : "You have no tasks that are still remembered. Results are kept for a while after a task's end, then forgotten.");
		const pages = h ("nav", { class: "pages", "aria-label": "Pages" });
		let named = false, told = false;

		main.append (h ("h1", {}, "Tasks"), form, view.element, pages);

		async function load (signal)
		{
			let found = { tasks: [], next_cursor: cursor ?? null };
			if (!named) {
				await ready (signal);
				named = true;
			}
			for (let i = 0; i < PAGES_LOOKED && found.tasks.length === 0 && (i === 0 || found.next_cursor); i++)
				found = await page ({ ...filter, limit: PAGE, cursor: found.next_cursor }, signal);
			view.update (found.tasks);
			drawPages (found.next_cursor);
			if (!told)
				tools.say (`${found.tasks.length} ${found.tasks.length === 1 ? "task" : "tasks"}${found.next_cursor ? ", and older ones" : ""}`);
			told = true;
		}

		function drawPages (next)
		{
			const links = [
				cursor && h ("a", { class: "button", href: `#/tasks?${encode (filter)}` }, "Newest"),
				next && h ("a", { class: "button", href: `#/tasks?${encode ({ ...filter, cursor: next })}` }, "Older"),
			].filter ((x) => x);
			const same = links.length === pages.children.length && links.every ((a, i) => a.isEqualNode (pages.children[i]));
			if (!same)
				pages.replaceChildren (...links);
			pages.hidden = !links.length;
		}

		/* what is old changes little; the newest page follows what happens */
		tools.live (cursor ? LIVE_MS * 10 : LIVE_MS, load);
	},
};
