/* SPDX-License-Identifier: Apache-2.0 */
/* Read before the page is drawn, so that it does not flash in the wrong colours: not a module. */
"use strict";
(() => {
	const root = document.documentElement;
	const choices = ["system", "light", "dark"];
	let chosen = "system";

	try {
		chosen = localStorage.getItem("weft-theme");
	} catch { /* storage is off: the system's choice, each time */ }
	if (!choices.includes(chosen))
		chosen = "system";
	root.dataset.theme = chosen;
	document.addEventListener("DOMContentLoaded", () => {
		const select = document.getElementById("theme");
		select.value = chosen;
		select.addEventListener("change", () => {
			root.dataset.theme = select.value;
			try {
				localStorage.setItem("weft-theme", select.value);
			} catch { /* for this visit only, then */ }
		});
	});
})();
