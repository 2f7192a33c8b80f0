// SPDX-License-Identifier: Apache-2.0
// Making elements. Whatever is shown comes from people and programs elsewhere: it becomes text nodes and attribute values, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill (el, attrs, children)
{
	for (const [name, value] of Object.entries (attrs)) {
		if (value === undefined || value === null || value === false)
			continue;
		if (typeof value === "function")
			el.addEventListener (name, value);
		else
			el.setAttribute (name, value === true ? "" : value);
	}
	el.append (...children.flat (Infinity).filter ((c) => c !== undefined && c !== null && c !== false && c !== "").map ((c) => c instanceof Node ? c : String (c)));
	return el;
}

/* h ("p", { class: "x", click: f }, "text", node, ...): attributes by name, functions are listeners. */
export function h (tag, attrs = {}, ...children)
{
	return fill (document.createElement (tag), attrs, children);
}

export function s (tag, attrs = {}, ...children)
{
	return fill (document.createElementNS (SVG, tag), attrs, children);
}

/* Sizes that are data: inline styles are not allowed in markup, this is. */
export function styled (el, properties)
{
	for (const [name, value] of Object.entries (properties))
		el.style.setProperty (name, value);
	return el;
}

/* Put new children into an element that is redrawn while somebody may have the focus in it: it stays on what has the same data-key or address. */
export function redraw (el, ...children)
{
	const at = document.activeElement, inside = at && at !== el && el.contains (at);
	const scrolled = [...el.querySelectorAll ("pre[data-key]")].map ((p) => [p.dataset.key, p.scrollTop]);

	fill ((el.replaceChildren (), el), {}, children);
	for (const [key, top] of scrolled) {
		const p = el.querySelector (`pre[data-key="${key}"]`);
		if (p)
			p.scrollTop = top;
	}
	if (!inside)
		return;
	for (const x of el.querySelectorAll ("a, button, input, select, summary, [tabindex]"))
		if (x.tagName === at.tagName && (at.dataset.key ? x.dataset.key === at.dataset.key : x.getAttribute ("href") === at.getAttribute ("href"))) {
			x.focus ({ preventScroll: true });
			return;
		}
}
