"use strict";
// Brings the health page up to date every ten seconds. Without it the page is read, and refreshed by its link.
// The session does not live longer by it: the request says that nobody asked (`x-by-itself`).
(() => {
  const now = document.getElementById("now");
  const state = document.getElementById("state");
  if (!now || !state) return;

  const refresh = async () => {
    // Whoever is reading in it, with the keyboard or a screen reader, is not interrupted.
    if (document.hidden || now.contains(document.activeElement)) return;
    let answer;
    try {
      answer = await fetch(now.dataset.from, { headers: { "x-by-itself": "1" }, cache: "no-store" });
    } catch {
      return; // the appliance is away for a moment: what is shown says of when it is
    }
    if (answer.redirected || answer.status === 403) { location.reload(); return; }
    if (!answer.ok) return;
    const open = [...now.querySelectorAll("details[open]")].map((each) => each.id);
    const scroll = window.scrollY;
    now.innerHTML = await answer.text(); // of our own templates, escaped there
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    window.scrollTo(0, scroll);
    const said = now.querySelector("[data-state]")?.dataset.state.trim();
    if (said && said !== state.textContent.trim()) state.textContent = said; // spoken only when it changes
  };

  setInterval(refresh, 10000);
})();
