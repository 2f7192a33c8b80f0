// SPDX-License-Identifier: Apache-2.0
// Numbers, times and states as people read them.

import { h } from "./dom.js";

export function duration (us)
{
	if (us < 1000)
		return `${Math.round (us)} µs`;
	if (us < 1e6)
		return `${(us / 1e3).toPrecision (3)} ms`;
	if (us < 60e6)
		return `${(us / 1e6).toPrecision (3)} s`;
	if (us < 3600e6)
		return `${Math.floor (us / 60e6)} min ${Math.floor (us / 1e6 % 60)} s`;
	return `${Math.floor (us / 3600e6)} h ${Math.floor (us / 60e6 % 60)} min`;
}

export function bytes (n)
{
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let i = 0;

	for (; n >= 1024 && i < units.length - 1; i++)
		n /= 1024;
	return `${i ? n.toPrecision (3) : n} ${units[i]}`;
}

export function count (n)
{
	return Number (n).toLocaleString ("en");
}

const pad = (n) => String (n).padStart (2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export function dayOf (d)
{
	return `${d.getDate ()} ${MONTHS[d.getMonth ()]}`;
}

function clock (d)
{
	return `${pad (d.getHours ())}:${pad (d.getMinutes ())}:${pad (d.getSeconds ())}`;
}

/* A moment: today by the clock, earlier with its day; all of it in the title. */
export function when (text)
{
	const d = new Date (text);

	if (!text || Number.isNaN (d.getTime ()))
		return "—";
	const now = new Date (), year = d.getFullYear () === now.getFullYear () ? "" : ` ${d.getFullYear ()}`;
	const short = d.toDateString () === now.toDateString () ? clock (d) : `${dayOf (d)}${year} ${clock (d)}`;
	return h ("time", { datetime: d.toISOString (), title: d.toISOString () }, short);
}

/* How long ago, coarse enough not to change with each look. */
export function ago (text)
{
	const d = new Date (text), sec = (Date.now () - d.getTime ()) / 1000;
	let short;

	if (!text || Number.isNaN (sec))
		return "never";
	if (sec < 60)
		short = "just now";
	else if (sec < 3600)
		short = `${Math.floor (sec / 60)} min ago`;
	else if (sec < 86400)
		short = `${Math.floor (sec / 3600)} h ago`;
	else
		short = `${Math.floor (sec / 86400)} days ago`;
	return h ("time", { datetime: d.toISOString (), title: d.toISOString () }, short);
}

/* Kinds of states: a sign and a colour, and always the word. */
const KINDS = {
	online: ["ok", "●"], offline: ["off", "○"],
	success: ["ok", "✓"], failed: ["bad", "✕"], cancelled: ["off", "–"], running: ["run", "▸"],
};

export function state (word)
{
	const [kind, sign] = KINDS[word] ?? ["wait", "…"];

	return h ("span", { class: `state ${kind}` }, h ("span", { "aria-hidden": "true", class: "sign" }, sign), word);
}

export function id (text)
{
	return h ("code", { class: "id" }, text);
}

/* The end of an id differs first: ids of this service begin with the time. */
export function shortId (text)
{
	return `…${String (text).slice (-8)}`;
}
