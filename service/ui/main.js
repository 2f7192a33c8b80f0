// SPDX-License-Identifier: Apache-2.0
// The frame of the console: who is signed in, which view the address names, and what every view may use.
//
// A view is { title, show (main, params, query, tools) }; tools is
//   signal                 ends when the view is left
//   live (ms, work)        see live.js; troubles are told above the view
//   say (text)             for those who hear the page
//   title (text)           once the view knows better what it shows
//   go (query)             the same view with another query

import { get, keep, query as encode, redeem, signedIn } from "./api.js";
import { h } from "./dom.js";
import * as endpoints from "./endpoints.js";
import * as functions from "./functions.js";
import { every } from "./live.js";
import { login } from "./login.js";
import { forget } from "./names.js";
import * as task from "./task.js";
import * as tasks from "./tasks.js";
import * as usage from "./usage.js";

const ROUTES = [
	[/^endpoints$/, endpoints.list, "endpoints"],
	[/^endpoints\/([^/]+)$/, endpoints.one, "endpoints"],
	[/^tasks$/, tasks.list, "tasks"],
	[/^tasks\/([^/]+)$/, task.one, "tasks"],
	[/^functions$/, functions.list, "functions"],
	[/^functions\/([^/]+)$/, functions.one, "functions"],
	[/^usage$/, usage.list, "usage"],
];

const by = (id) => document.getElementById (id);
const main = by ("main"), nav = by ("nav"), who = by ("who"), signout = by ("signout"), trouble = by ("trouble");
let leaving = null, fresh = true, telling = 0;

function say (text)
{
	clearTimeout (telling);		/* what is told is the newest, also when it comes right behind another */
	by ("say").textContent = "";
	telling = setTimeout (() => by ("say").textContent = text, 50);	/* the same text again is told again */
}

function tellTrouble (text)
{
	trouble.hidden = !text;
	if (trouble.textContent !== text)
		trouble.textContent = text;
}

function setTitle (text)
{
	document.title = `${text} · Weft`;
}

/* The token stopped being good: expired, revoked, or of another service on this address. */
function expelled (error)
{
	keep (null);
	forget ();
	render (error);
}

function liveIn (signal)
{
	return (ms, work) => every (ms, work, (error, again) => {
		if (!error)
			tellTrouble ("");
		else if (error.status === 401)
			expelled (error);
		else
			tellTrouble (`${error.message}; trying again in ${again} s`);
	}, signal);
}

/* What the address names; view is missing when it names nothing. */
function parse ()
{
	const [path, q] = location.hash.replace (/^#\/?/, "").split ("?", 2), query = Object.fromEntries (new URLSearchParams (q ?? ""));

	for (const [re, view, section] of ROUTES) {
		const found = re.exec (path || "endpoints");
		try {
			if (found)
				return { path, query, view, section, params: found.slice (1).map (decodeURIComponent) };
		} catch { /* badly encoded */ }
	}
	return { path, query };
}

function show ({ path, query, view, section, params }, signal)
{
	const tools = {
		signal, say, title: setTitle, live: liveIn (signal),
		go: (q) => {
			const text = encode (q);
			location.hash = `#/${path}${text ? `?${text}` : ""}`;
		},
	};

	for (const a of nav.querySelectorAll ("a"))
		if (a.getAttribute ("href") === `#/${section}`)
			a.setAttribute ("aria-current", "page");
		else
			a.removeAttribute ("aria-current");
	setTitle (view.title);
	view.show (main, params, query, tools);
}

function signedOutView (error, signal)
{
	setTitle ("Sign in");
	login (main, error, signal, () => {
		say ("Signed in");
		render ();
	});
}

async function introduce (signal)
{
	try {
		who.textContent = (await get ("v3/whoami", { signal })).name;
	} catch (e) {
		if (e.status === 401)
			expelled (e);
	}
}

/* Draw what the address names. Focus goes to the view, but not when the page has just been opened: the reader begins at its top then. */
function render (error = null)
{
	const place = parse ();

	leaving?.abort ();
	leaving = new AbortController ();
	tellTrouble ("");
	main.replaceChildren ();
	nav.hidden = signout.hidden = !signedIn ();
	if (!signedIn ()) {
		who.textContent = "";
		signedOutView (error, leaving.signal);
		fresh = false;
		return;
	}
	if (!who.textContent)
		introduce (leaving.signal);
	if (place.view)
		show (place, leaving.signal);
	else
		main.append (h ("h1", {}, "Not found"), h ("p", {}, "There is no such page. ", h ("a", { href: "#/endpoints" }, "Go to the endpoints")));
	if (!fresh && !main.contains (document.activeElement))
		main.focus ({ preventScroll: true });
	fresh = false;
}

/* The way in that `weft console` prints. Its ticket leaves the address, and is good for nothing when the page is seen. */
async function arrive ()
{
	const found = /^#ticket=([\w.~-]+)$/.exec (location.hash);
	let error = null;

	if (found) {
		history.replaceState (null, "", `${location.pathname}#/endpoints`);
		leaving?.abort ();
		main.replaceChildren (h ("p", {}, "Signing in …"));
		try {
			keep (await redeem (found[1]));
			forget ();
			who.textContent = "";
		} catch (e) {
			error = e;
		}
	}
	render (error);
	scrollTo (0, 0);
}

by ("skip").addEventListener ("click", (e) => {
	e.preventDefault ();
	main.focus ();
});
signout.addEventListener ("click", () => {
	keep (null);
	forget ();
	render ();
});
window.addEventListener ("hashchange", arrive);
arrive ();
