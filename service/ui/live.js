// SPDX-License-Identifier: Apache-2.0
// Asking again and again, without hammering: seldom while nobody looks, and ever more seldom while the service does not answer.

const HIDDEN_TIMES = 10;
const FAILED_MAX_MS = 60000;

/* Calls work (signal) now and each `ms` after it has ended, until the signal ends it. trouble (null | error, seconds) is told how it goes.
 * Returns a function that makes it look at once. */
export function every (ms, work, trouble, signal)
{
	let failures = 0, timer = null, busy = false, wanted = false;

	function plan ()
	{
		const slow = document.hidden ? HIDDEN_TIMES : 1;
		const pause = failures ? Math.min (Math.max (ms, 1000) * 2 ** failures, FAILED_MAX_MS) : ms * slow;
		clearTimeout (timer);
		timer = setTimeout (run, wanted ? 0 : pause * (0.9 + 0.2 * Math.random ()));
		return pause;
	}

	async function run ()
	{
		let error = null;

		if (busy || signal.aborted)
			return;
		busy = true;
		wanted = false;
		try {
			await work (signal);
			failures = 0;
		} catch (e) {
			if (signal.aborted)
				return;
			failures++;
			error = e;
		} finally {
			busy = false;
		}
		if (!signal.aborted)
			trouble (error, Math.round (plan () / 1000));
	}

	function now ()
	{
		wanted = true;
		clearTimeout (timer);
		run ();
	}

	document.addEventListener ("visibilitychange", () => document.hidden || now (), { signal });
	signal.addEventListener ("abort", () => clearTimeout (timer));
	run ();
	return now;
}
