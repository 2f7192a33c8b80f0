// SPDX-License-Identifier: Apache-2.0
// Signing in: a token, checked with the service before it is kept.

import { get, keep } from "./api.js";
import { h } from "./dom.js";

export function login (main, error, signal, done)
{
	const problem = h ("p", { id: "login-problem", class: "problem", role: "alert" });
	const input = h ("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", autocapitalize: "none",
		"aria-describedby": "login-hint login-problem", required: true });
	const button = h ("button", { type: "submit", class: "main" }, "Sign in");

	function refuse (text)
	{
		problem.textContent = text;
		input.setAttribute ("aria-invalid", text ? "true" : "false");
		if (text)
			input.focus ();
	}

	async function submit (e)
	{
		const text = input.value.trim ();
		e.preventDefault ();
		if (!text) {
			refuse ("Enter a token.");
			return;
		}
		if (!/^[\x21-\x7e]+$/.test (text)) {
			refuse ("This is not a token: it has spaces or other characters that no token has.");
			return;
		}
		button.disabled = true;
		refuse ("");
		try {
			await get ("v3/whoami", { signal, using: text });
			keep (text);
			done ();
		} catch (x) {
			if (!signal.aborted)
				refuse (`Not signed in: ${x.message}.`);
		} finally {
			button.disabled = false;
		}
	}

	main.append (h ("div", { class: "login" },
		h ("h1", {}, "Sign in"),
		h ("form", { submit, novalidate: true },
			h ("label", { for: "token" }, "Token"), input,
			h ("p", { id: "login-hint", class: "muted" }, "It stays in this browser tab and is forgotten when the tab is closed."),
			problem, button),
		h ("p", { class: "muted" }, "Where the ", h ("code", {}, "weft"), " command works, ",
			h ("code", {}, "weft console"), " prints an address that needs no typing.")));
	if (error)
		refuse (`You are signed out: ${error.message}.`);
	input.focus ();
}
