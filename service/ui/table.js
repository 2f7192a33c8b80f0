// SPDX-License-Identifier: Apache-2.0
// A table that is filled again and again: rows that stay the same keep their elements, and with them focus and selection.

import { h, redraw } from "./dom.js";

/* columns: { head, cell (row), class }. The first cell of a row is its header. key (row): what it is; empty: said when there is none. With
 * titled the page has a heading that says the same as the caption. */
export function table ({ caption, columns, key, empty, titled })
{
	const body = h ("tbody");
	const view = h ("table", {}, h ("caption", {}, h ("span", { class: titled ? "hide" : null }, caption)),
		h ("thead", {}, h ("tr", {}, columns.map ((c) => h ("th", { scope: "col", class: c.class }, c.head)))), body);
	const none = h ("p", { class: "empty" }, empty);
	const box = h ("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, view);
	const element = h ("div", { class: "listing" }, box, none);
	let rows = new Map ();

	none.hidden = true;

	function make (data)
	{
		return h ("tr", {}, columns.map ((c, i) => h (i ? "td" : "th", { scope: i ? null : "row", class: c.class }, c.cell (data))));
	}

	function update (list)
	{
		const next = new Map ();

		for (const data of list) {
			const k = key (data), made = make (data), old = rows.get (k);
			next.set (k, old && old.isEqualNode (made) ? old : made);
		}
		const now = [...next.values ()];
		if (now.length !== body.children.length || now.some ((r, i) => body.children[i] !== r))
			redraw (body, now);
		rows = next;
		box.hidden = !now.length;
		none.hidden = now.length > 0;
	}

	return { element, update };
}
