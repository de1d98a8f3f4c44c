"use strict";
// The sample browser. Model text enters the page as text nodes only, never as markup.
(() => {
  const source = document.getElementById("samples-data");
  if (!source) return;
  const STEP = 20;
  const samples = JSON.parse(source.textContent);
  const list = document.getElementById("sample-list");
  const status = document.getElementById("sample-status");
  const more = document.getElementById("sample-more");
  const search = document.getElementById("sample-search");
  const picker = document.getElementById("sample-iteration");
  const buttons = [...document.querySelectorAll("[data-filter]")];
  const state = { filter: "all", words: "", iteration: "", shown: STEP, diff: false };
  const differ = document.getElementById("sample-diff");
  const MOST_WORDS = 1200;

  const side = (verdict) => (verdict ? Math.sign(verdict[2] - 0.5) : NaN);
  const gap = (s) => Math.abs(s.policy[1] - s.opponent[1]);
  const filters = {
    all: () => true,
    wins: (s) => side(s.judge) > 0,
    losses: (s) => side(s.judge) < 0,
    ties: (s) => side(s.judge) === 0,
    disagree: (s) => s.judge && s.oracle && side(s.judge) !== side(s.oracle),
    flips: (s) => s.judge && (s.judge[0] - 0.5) * (s.judge[1] - 0.5) < 0,
    gap: (s) => gap(s) > 0,
  };
  const texts = new Map(samples.map((s) => [
    s, [s.prompt, s.policy[2], s.opponent[2], ...s.messages.map((m) => m[1])].join("\n").toLowerCase(),
  ]));

  const make = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };
  const shape = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const percent = (prob) => (100 * prob).toFixed(0) + " %";
  const passage = (text, cut) => {
    const body = make("div", "text", text);
    body.dir = "auto";
    if (cut) body.append(make("span", "cut", ` … ${cut.toLocaleString("en")} more characters`));
    return body;
  };

  // Words of one text, each with whether the other text has it in the same place (longest common subsequence).
  function marked(text, other) {
    const [a, b] = [text, other].map((one) => one.match(/\S+|\s+/g) ?? []);
    if (a.length > MOST_WORDS || b.length > MOST_WORDS) return null;
    const best = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        best[i][j] = a[i] === b[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    const found = [];
    for (let i = 0, j = 0; i < a.length; i++) {
      while (j < b.length && a[i] !== b[j] && best[i][j + 1] > best[i + 1][j]) j++;
      const same = j < b.length && a[i] === b[j];
      if (same) j++;
      found.push([a[i], same]);
    }
    return found;
  }
  function comparison(text, other, cut, tag) {
    const words = state.diff ? marked(text, other) : null;
    if (!words) return passage(text, cut);
    const body = passage("", cut);
    const parts = [];
    for (const [word, same] of words) {
      const last = parts[parts.length - 1];
      if (last && last[1] === same) last[0] += word;
      else parts.push([word, same]);
    }
    body.prepend(...parts.map(([part, same]) => (same ? part : make(tag, "", part))));
    return body;
  }

  function verdictLine(name, verdict, sample) {
    const strip = shape("svg", { viewBox: "0 0 92 14", "aria-hidden": "true" });
    const at = (prob) => (4 + 84 * prob).toFixed(1);
    strip.append(
      shape("path", { d: "M4 7H88M46 2V12", fill: "none", class: "s-muted" }),
      shape("path", { d: `M${at(verdict[0])} 7H${at(verdict[1])}`, "stroke-width": 3, class: name === "judge" ? "s-one" : "s-three" }),
      shape("circle", { cx: at(verdict[2]), cy: 7, r: 4, class: name === "judge" ? "f-one" : "f-three" }),
    );
    const who = side(verdict) > 0 ? sample.policy[0] : side(verdict) < 0 ? sample.opponent[0] : "tie";
    const orders = `${percent(verdict[0])} shown first, ${percent(verdict[1])} second`;
    return make("span", "verdict", make("span", "by", name === "judge" ? "Judge" : "Oracle"), strip, make("b", "", who),
      make("small", "", `${percent(verdict[2])} for ${sample.policy[0]} (${orders})`));
  }

  function card(sample) {
    const link = make("a", "", sample.prompt);
    link.href = "#sample=" + sample.id;
    const prompt = make("div", "prompt", make("div", "where", make("span", "", `Iteration ${sample.iteration}`), link));
    for (const [role, text, cut] of sample.messages) {
      if (sample.messages.length > 1) prompt.append(make("div", "turn", role));
      prompt.append(passage(text, cut));
    }
    const pair = make("div", "pair");
    for (const [[name, length, text, cut], other, sign] of [[sample.policy, sample.opponent, 1], [sample.opponent, sample.policy, -1]]) {
      const won = side(sample.judge) === sign;
      const who = make("div", "who", make("b", "", name), `${length} ${list.dataset.unit}`);
      if (won) who.append(make("span", "won", "✓ the judge’s choice"));
      pair.append(make("div", won ? "side wins" : "side", who, text ? comparison(text, other[2], cut, sign > 0 ? "ins" : "del") : make("span", "cut", "(empty)")));
    }
    const verdicts = make("div", "verdicts");
    for (const name of ["judge", "oracle"]) if (sample[name]) verdicts.append(verdictLine(name, sample[name], sample));
    const article = make("article", "sample", prompt, pair, verdicts);
    article.tabIndex = -1;
    return article;
  }

  const matches = (filter) => samples.filter((s) => filters[filter](s) && texts.get(s).includes(state.words)
    && (!state.iteration || String(s.iteration) === state.iteration));
  const pinned = () => samples.find((s) => location.hash === "#sample=" + s.id);
  function draw() {
    let found = matches(state.filter);
    if (state.filter === "gap") found = [...found].sort((a, b) => gap(b) - gap(a));
    const first = pinned();
    if (first) found = [first, ...found.filter((s) => s !== first)];
    const visible = found.slice(0, state.shown);
    list.replaceChildren(...visible.map(card));
    status.textContent = found.length ? `${visible.length} of ${found.length} shown` : "No sample fits.";
    more.hidden = visible.length === found.length;
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === state.filter));
      button.querySelector("small").textContent = button.dataset.filter === "gap" ? "" : matches(button.dataset.filter).length;
    }
  }
  const change = (update) => { Object.assign(state, { shown: STEP }, update); draw(); };
  function step(by) {
    const cards = [...list.children];
    const current = cards.indexOf(document.activeElement?.closest(".sample"));
    const next = cards[Math.min(cards.length - 1, Math.max(0, current + by))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  for (const button of buttons) button.addEventListener("click", () => change({ filter: button.dataset.filter }));
  differ.addEventListener("click", () => {
    state.diff = !state.diff;
    differ.setAttribute("aria-pressed", String(state.diff));
    draw();
  });
  search.addEventListener("input", () => change({ words: search.value.trim().toLowerCase() }));
  picker?.addEventListener("change", () => change({ iteration: picker.value }));
  more.addEventListener("click", () => {
    const before = state.shown;
    change({ shown: before + STEP });
    list.children[before]?.focus();
  });
  window.addEventListener("hashchange", () => { draw(); if (pinned()) list.firstElementChild.scrollIntoView(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") { event.preventDefault(); search.focus(); }
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  draw();
  if (pinned()) list.firstElementChild.scrollIntoView();
})();
