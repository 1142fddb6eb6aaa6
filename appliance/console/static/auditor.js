// Follows something that goes on, and shows the page anew when it is over. Without it the page has a link.
"use strict";
(() => {
  const place = document.getElementById("progress");
  if (!place || !place.dataset.progress) return;
  const bar = place.querySelector("progress");
  const put = (name, number) => {
    const found = place.querySelector(`[data-${name}]`);
    if (found && number !== undefined) found.textContent = number.toLocaleString("en").replaceAll(",", "\u202f");
  };
  const look = async () => {
    try {
      const answer = await fetch(place.dataset.progress, { headers: { accept: "application/json" } });
      if (!answer.ok) return;
      const told = await answer.json();
      if (!told.running) {
        location.reload();
        return;
      }
      if (bar && told.percent !== undefined) bar.value = told.percent;
      put("done", told.done);
      put("matches", told.matches);
    } catch {
      return; // the gateway is away: the link remains
    }
    setTimeout(look, 700);
  };
  setTimeout(look, 400);
})();
