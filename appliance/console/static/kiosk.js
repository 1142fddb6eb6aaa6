"use strict";
// The lobby's page. A conversation lives in this page's memory alone: not in storage, not in the address, not in
// the history. Clearing puts a fresh copy of the page's inside in its place and forgets the rest.

(() => {
  const body = document.body;
  const STATE_SECONDS = 10;
  const TROUBLE_SECONDS = 3; // while there is nothing to ask: visitors wait for the end of it
  const MAX_COUNTDOWN_SECONDS = 20;
  const SIZES = [1, 1.2, 1.45, 1.75];

  async function state() {
    try {
      // It says that nobody did this: a session that somebody forgot here ends in its time.
      const answer = await fetch("/kiosk/state", { cache: "no-store", redirect: "error", headers: { "x-by-itself": "1" } });
      return answer.ok ? await answer.json() : { state: "closed" };
    } catch {
      return { state: "offline" };
    }
  }

  if (body.dataset.state === "setup") {
    setInterval(async () => {
      const found = await state();
      if (found.state !== "setup" && found.state !== "offline") { location.replace("/kiosk"); }
    }, STATE_SECONDS * 1000);
    return;
  }

  const WORDS = {};
  for (const each of document.getElementById("words").content.querySelectorAll("[data-word]")) {
    WORDS[each.dataset.word] = each.textContent;
  }
  const IDLE_MS = Number(body.dataset.idleSeconds) * 1000;
  const COUNTDOWN_MS = Math.min(MAX_COUNTDOWN_SECONDS * 1000, IDLE_MS / 2);
  const MAX_TURNS = Number(body.dataset.maxTurns);
  const pristine = document.getElementById("kiosk").cloneNode(true);

  let room = null; // what there is of this conversation: its elements, turns and the running request
  let current = body.dataset.state;
  let touched = now();
  let cleared = -Infinity;

  function now() {
    return { wall: Date.now(), steady: performance.now() };
  }

  function silence() {
    // A machine that slept moves only one of the two clocks.
    return Math.max(Date.now() - touched.wall, performance.now() - touched.steady);
  }

  const $ = (id) => document.getElementById(id);

  function begin() {
    room = { turns: [], conversation: random(), running: null, size: 0, spoken: 0 };
    touched = now();
    document.documentElement.style.removeProperty("--scale");
    $("form").addEventListener("submit", (event) => { event.preventDefault(); ask($("question").value); });
    $("question").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask($("question").value); }
    });
    $("question").addEventListener("input", () => { fit(); show(); });
    $("stop").addEventListener("click", () => room.running?.abort("stopped"));
    $("done").addEventListener("click", clear);
    $("leave").addEventListener("click", clear);
    $("still").addEventListener("click", (event) => { if (event.target.id !== "leave") { stay(); } });
    $("still").addEventListener("cancel", (event) => { event.preventDefault(); stay(); });
    $("larger").addEventListener("click", () => resize(1));
    $("smaller").addEventListener("click", () => resize(-1));
    for (const each of document.querySelectorAll(".example")) {
      // A second tap on a button that cleared the screen is no question.
      each.addEventListener("click", () => { if (performance.now() - cleared > 600) { ask(each.textContent); } });
    }
    enter(current);
  }

  function clear() {
    const left = room;
    room = null;
    left.running?.abort("cleared"); // the API closes the record: the caller has gone
    left.turns.length = 0;
    $("question").value = "";
    $("kiosk").replaceWith(pristine.cloneNode(true));
    getSelection()?.removeAllRanges();
    scrollTo(0, 0);
    cleared = performance.now();
    begin();
    look();
  }

  function random() {
    return [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
  }

  // ---- what is shown when

  function enter(found) {
    current = found;
    body.dataset.state = found;
    const closed = $("closed");
    closed.replaceChildren();
    if (found !== "ready") {
      const title = document.createElement("h2");
      title.textContent = WORDS.closed_title;
      const text = document.createElement("p");
      text.textContent = found === "offline" ? WORDS.offline : WORDS.closed_text;
      closed.append(title, text);
    }
    show();
  }

  function show() {
    const asked = $("talk").childElementCount > 0;
    const full = room.turns.length >= MAX_TURNS;
    const waits = current !== "ready" || full;
    $("welcome").hidden = asked || current !== "ready";
    $("closed").hidden = current === "ready";
    $("done").hidden = !isUsed();
    $("stop").hidden = !room.running;
    $("ask").hidden = Boolean(room.running);
    $("ask").disabled = waits;
    $("question").disabled = waits;
  }

  function isUsed() {
    return $("talk").childElementCount > 0 || $("question").value !== "" || room.size > 0;
  }

  function resize(step) {
    room.size = Math.min(SIZES.length - 1, Math.max(0, room.size + step));
    document.documentElement.style.setProperty("--scale", SIZES[room.size]);
    fit();
    show();
  }

  function fit() {
    const field = $("question");
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + 4}px`;
  }

  function part(parent, kind, name, text) {
    const made = document.createElement(kind);
    made.className = name;
    made.textContent = text;
    parent.append(made);
    return made;
  }

  // ---- asking

  async function ask(typed) {
    const question = typed.trim();
    if (!question || room.running || current !== "ready" || room.turns.length >= MAX_TURNS) { return; }
    const mine = room;
    const running = new AbortController();
    mine.running = running;
    $("question").value = "";
    fit();
    const turn = part($("talk"), "article", "turn", "");
    const asked = part(turn, "div", "asked", "");
    part(asked, "h3", "unseen", WORDS.you);
    part(asked, "p", "words", question).dir = "auto";
    const given = part(turn, "div", "given", "");
    part(given, "h3", "unseen", WORDS.answer);
    const text = part(given, "div", "words", "");
    const note = part(given, "p", "note writing", WORDS.writing);
    text.setAttribute("aria-busy", "true");
    show();
    turn.scrollIntoView({ block: "start" });
    say(WORDS.writing);
    const answer = { text: "", reason: "", record: "" };
    let problem = null;
    try {
      await stream(mine, question, running.signal, answer, () => {
        if (mine !== room) { return; }
        Answer.show(text, answer.text);
        note.hidden = true;
        follow();
        const until = Answer.sayable(answer.text, mine.spoken);
        if (until > mine.spoken) { say(Answer.plain(answer.text.slice(mine.spoken, until))); mine.spoken = until; }
      });
    } catch (error) {
      if (mine !== room) { return; }
      problem = running.signal.reason === "stopped" ? null : error;
      if (!problem) { answer.reason = "stopped"; }
    }
    if (mine !== room) { return; } // cleared meanwhile: nothing of it comes back
    mine.running = null;
    touched = now(); // time to read it
    text.removeAttribute("aria-busy");
    say(Answer.plain(answer.text.slice(mine.spoken)));
    mine.spoken = 0;
    finish(given, note, question, answer, problem);
    show();
    follow();
    if (!matchMedia("(pointer: coarse)").matches) { $("question").focus(); }
  }

  async function stream(mine, question, signal, answer, changed) {
    const sent = await fetch("/kiosk/ask", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ conversation: mine.conversation, question, turns: mine.turns }),
      cache: "no-store",
      redirect: "error",
      signal,
    });
    const receipt = sent.headers.get("x-request-id") ?? "";
    answer.record = (sent.headers.get("x-audit-record") ?? "").split("/").pop();
    if (!sent.ok || !sent.headers.get("content-type")?.startsWith("text/event-stream")) {
      throw new Trouble((await sent.json().catch(() => null))?.error?.code ?? `http_${sent.status}`, sent.status, receipt);
    }
    const reader = sent.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) { throw new Trouble("cut", 0, receipt); }
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ")) { continue; }
        if (line === "data: [DONE]") { return; }
        const event = JSON.parse(line.slice(6));
        if (event.error) { throw new Trouble(event.error.code, 0, receipt); }
        const choice = event.choices?.[0];
        if (choice?.delta?.content) { answer.text += choice.delta.content; changed(); }
        if (choice?.finish_reason) { answer.reason = choice.finish_reason; }
      }
    }
  }

  class Trouble extends Error {
    constructor(code, status, receipt) {
      super(code);
      this.code = code;
      this.status = status;
      this.receipt = receipt;
    }
  }

  function wordsFor(trouble) {
    if (!(trouble instanceof Trouble)) { return WORDS.offline; }
    if (["context_length_exceeded", "conversation_too_long", "question_too_long", "request_too_large"].includes(trouble.code)) {
      return WORDS.too_long;
    }
    if (trouble.code === "overloaded" || trouble.code === "request_timeout" || trouble.status === 429) { return WORDS.busy; }
    if (trouble.code === "cut" || trouble.status === 0 || trouble.status >= 500) { return WORDS.unavailable; }
    return WORDS.impossible;
  }

  function finish(given, note, question, answer, problem) {
    const said = { stopped: WORDS.stopped, length: WORDS.shortened, content_filter: WORDS.withheld }[answer.reason];
    note.className = "note";
    note.textContent = problem ? wordsFor(problem) : said ?? "";
    note.hidden = !note.textContent;
    if (note.textContent) { say(note.textContent); }
    if (problem) {
      note.classList.add("problem");
      const again = part(given, "button", "again", WORDS.again);
      again.type = "button";
      again.addEventListener("click", () => {
        if (room.running || current !== "ready") { return; }
        given.closest(".turn").remove();
        ask(question);
      });
      const code = problem instanceof Trouble ? [problem.code, problem.receipt].filter(Boolean).join(" · ") : "offline";
      part(given, "small", "code", `${WORDS.staff_code}: ${code}`);
      look();
    } else {
      if (answer.text) { room.turns.push({ question, answer: answer.text }); }
      if (room.turns.length >= MAX_TURNS) { say(part(given, "p", "note", WORDS.full).textContent); }
    }
    if (answer.record) { part(given, "small", "record", `${WORDS.record} ${answer.record}`); }
  }

  // ---- what a screen reader hears: whole sentences, once

  function say(text) {
    if (!text) { return; }
    const line = document.createElement("span");
    line.textContent = `${text} `;
    const log = $("spoken");
    log.append(line);
    setTimeout(() => line.remove(), 15000);
  }

  function follow() {
    const place = $("room");
    if (place.scrollHeight - place.scrollTop - place.clientHeight < place.clientHeight / 2) { place.scrollTop = place.scrollHeight; }
  }

  // ---- nobody there any more

  function touch(event) {
    // The countdown stops under a finger; what it meant is known with the click (below), or else the click
    // would fall through to what lies under the closing dialog.
    if (!$("still").open || (event.type === "pointerdown" && !event.target.closest?.("#leave"))) { touched = now(); }
  }

  function stay() {
    touched = now();
    if ($("still").open) { $("still").close(); }
  }

  function tick() {
    if (!isUsed()) { touched = now(); return; }
    const left = IDLE_MS - silence();
    if (left <= 0) { clear(); return; }
    if (left > COUNTDOWN_MS) { return; }
    const seconds = Math.ceil(left / 1000);
    if ($("count").textContent !== String(seconds)) { $("count").textContent = seconds; }
    $("left").max = COUNTDOWN_MS;
    $("left").value = left;
    if (!$("still").open) { $("still").showModal(); $("stay").focus(); }
  }

  // ---- how the appliance is

  function watch() {
    setTimeout(async () => { await look(); watch(); }, (current === "ready" ? STATE_SECONDS : TROUBLE_SECONDS) * 1000);
  }

  async function look() {
    const found = await state();
    if (found.state === "setup" || found.state === "staff") {
      if (room.running) { room.running.abort("cleared"); }
      location.replace("/kiosk");
    } else if (found.build && found.build !== body.dataset.build && !isUsed()) {
      location.replace("/kiosk"); // another release serves this page now
    } else if (found.state !== current) {
      enter(found.state);
    }
  }

  for (const kind of ["pointerdown", "keydown", "input", "wheel", "touchmove"]) {
    addEventListener(kind, touch, { passive: true, capture: true });
  }
  addEventListener("contextmenu", (event) => event.preventDefault());
  addEventListener("dragstart", (event) => event.preventDefault());
  addEventListener("pagehide", () => room?.running?.abort("cleared"));
  addEventListener("pageshow", (event) => { if (event.persisted) { clear(); } });
  addEventListener("online", look);
  setInterval(tick, 250);
  begin();
  watch();
})();
