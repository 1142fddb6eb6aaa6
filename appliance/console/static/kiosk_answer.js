"use strict";
// What a model wrote → elements. Only text nodes hold its words: nothing of it becomes markup, a link or a style.
// Known are paragraphs, lists, headings (as bold lines), bold words and blocks of code; all else stays as it is.

const Answer = (() => {
  // What would turn text around, or is invisible, has no place on a public screen (joiners stay: scripts need them).
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;
  const ITEM = /^\s{0,6}(?:[-*•]|(\d{1,3})[.)])\s+(.*)$/;

  function blocks(text) {
    const found = [];
    let open = null;
    let code = null;
    for (const line of text.replace(/\r\n?/g, "\n").replace(HIDDEN, "").split("\n")) {
      if (/^\s*```/.test(line)) {
        if (code) { code = null; } else { code = { kind: "pre", lines: [] }; found.push(code); }
        open = null;
        continue;
      }
      if (code) { code.lines.push(line); continue; }
      if (!line.trim()) { open = null; continue; }
      const item = ITEM.exec(line);
      const kind = item ? (item[1] ? "ol" : "ul") : "p";
      const heading = /^\s{0,3}#{1,6}\s+(.*)$/.exec(line);
      if (heading) { found.push({ kind: "h", lines: [heading[1]] }); open = null; continue; }
      if (!open || open.kind !== kind) {
        open = { kind, lines: [], start: item && item[1] ? Number(item[1]) : 1 };
        found.push(open);
      }
      open.lines.push(item ? item[2] : line);
    }
    return found;
  }

  function words(parent, text) {
    text.split(/\*\*(.+?)\*\*/).forEach((piece, index) => {
      if (!piece) { return; }
      if (index % 2) {
        const bold = document.createElement("strong");
        bold.textContent = piece;
        parent.append(bold);
      } else {
        parent.append(document.createTextNode(piece));
      }
    });
  }

  function element(block) {
    const made = document.createElement(block.kind === "h" ? "p" : block.kind);
    made.dir = "auto";
    if (block.kind === "pre") {
      made.textContent = block.lines.join("\n");
    } else if (block.kind === "h") {
      const bold = document.createElement("strong");
      bold.textContent = block.lines[0].replace(/\*\*/g, "");
      made.append(bold);
    } else if (block.kind === "p") {
      words(made, block.lines.join(" "));
    } else {
      if (block.kind === "ol" && block.start > 1) { made.start = block.start; }
      for (const line of block.lines) {
        const item = document.createElement("li");
        item.dir = "auto";
        words(item, line);
        made.append(item);
      }
    }
    return made;
  }

  // Blocks that are whole already keep their elements: a reader's place and selection stay where they are.
  function show(parent, text) {
    const wanted = blocks(text);
    wanted.forEach((block, index) => {
      const key = JSON.stringify(block);
      const there = parent.children[index];
      if (there && shown.get(there) === key) { return; }
      const made = element(block);
      shown.set(made, key);
      if (there) { there.replaceWith(made); } else { parent.append(made); }
    });
    while (parent.children.length > wanted.length) { parent.lastElementChild.remove(); }
  }
  const shown = new WeakMap();

  // Where the last whole sentence ends: what lies before it can be said aloud.
  function sayable(text, from) {
    const rest = text.slice(from);
    const ends = [...rest.matchAll(/[.!?…。؟:](?=\s)|\n/g)];
    return ends.length ? from + ends[ends.length - 1].index + 1 : from;
  }

  return { show, sayable, plain: (text) => text.replace(HIDDEN, "").replace(/\*\*|^#+ |^```.*$/gm, "").trim() };
})();
