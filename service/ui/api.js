// SPDX-License-Identifier: Apache-2.0
// Requests to the service that this page came from. The token lives in sessionStorage: it is gone with the tab.

const KEY = "weft-token";
const base = new URL ("../", document.baseURI);
let token = null;

try {
	token = sessionStorage.getItem (KEY);
} catch { /* no storage: the token lives as long as the page */ }

export class ApiError extends Error {
	constructor (text, status, code)
	{
		super (text);
		this.status = status;
		this.code = code;
	}
}

export function signedIn ()
{
	return token !== null;
}

export function keep (text)
{
	token = text;
	try {
		if (text === null)
			sessionStorage.removeItem (KEY);
		else
			sessionStorage.setItem (KEY, text);
	} catch { /* as above */ }
}

/* The body of an answer that is not 2xx, as one sentence. */
function sentence (status, body)
{
	const why = body && (body.detail ?? body.reason);

	if (typeof why === "string")
		return why;
	if (Array.isArray (why))
		return why.map ((p) => p.msg).join ("; ");
	return `the service answered ${status}`;
}

async function request (path, signal, options)
{
	let answer, body = null;

	try {
		answer = await fetch (new URL (path, base), { signal, cache: "no-store", credentials: "omit", ...options });
	} catch (e) {
		if (e.name === "AbortError")
			throw e;
		throw new ApiError ("the service cannot be reached", 0, "UNREACHABLE");
	}
	try {
		body = await answer.json ();
	} catch (e) {
		if (e.name === "AbortError")
			throw e;
		if (answer.ok)
			throw new ApiError ("the service's answer cannot be read", answer.status, "UNREADABLE");
	}
	if (!answer.ok)
		throw new ApiError (sentence (answer.status, body), answer.status, body?.code);
	return body;
}

export function get (path, { signal, using = token } = {})
{
	return request (path, signal, { headers: { Authorization: `Bearer ${using}` } });
}

/* The token that a ticket of `weft console` is good for, once. */
export async function redeem (ticket)
{
	const body = JSON.stringify ({ ticket });

	return (await request ("v3/console/tokens", undefined, { method: "POST", body, headers: { "Content-Type": "application/json" } })).access_token;
}

/* "a=1&b=2" of what is not empty. */
export function query (values)
{
	const q = new URLSearchParams ();

	for (const [k, v] of Object.entries (values))
		if (v !== undefined && v !== null && v !== "")
			q.set (k, v);
	return q.toString ();
}
