// The server says what is so; here it is only drawn. Nothing that comes from it is
// ever taken for HTML: elements are made one by one, and words are their text.

const $ = (id) => document.getElementById(id);

// make returns an element. Of what it is made of, what is missing is left out.
function make(tag, properties, ...children) {
  const { data, ...rest } = properties ?? {};
  const e = Object.assign(document.createElement(tag), rest);
  Object.assign(e.dataset, data);
  e.append(...children.flat().filter((c) => c !== undefined && c !== null && c !== false && c !== ""));
  return e;
}

let doc = null; // what is shown
let held = new Map(); // address -> what the document says of it, with its pool
let chosen = null; // {address} or {pool, from}, a run of that pool
const drawn = new Map(); // section -> what it was drawn of
const views = new Map(); // pool and family -> its view

// ---- words

// states are what a cell can mean, in a word and in a sentence.
const states = {
  free: ["free", "a pool can give it"],
  used: ["used", "a Service has it, and it is announced"],
  silent: ["not announced", "a Service has it, and nobody announces it"],
  retiring: ["retiring", "a Service has it, and the pool no more"],
  claimed: ["claimed", "a claim keeps it, and no Service uses it"],
  withheld: ["withheld", "it is in the pool and not to be given"],
  conflict: ["conflict", "a host outside of the cluster has it"],
};

// age says how long ago that was, as kubectl does.
function age(t) {
  const s = Math.max(0, Math.floor(Date.now() / 1000 - t));
  if (s < 120) return `${s}s`;
  if (s < 600) return `${Math.floor(s / 60)}m${s % 60 ? `${s % 60}s` : ""}`;
  if (s < 3 * 3600) return `${Math.floor(s / 60)}m`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86400)}d`;
}

function since(t) {
  if (!t) return "";
  return make("time", { dateTime: new Date(t * 1000).toISOString(), title: new Date(t * 1000).toLocaleString(), textContent: age(t), data: { t } });
}

function tick() {
  for (const e of document.querySelectorAll("time")) e.textContent = age(e.dataset.t);
}

// number writes a number that may be large beyond meaning.
function number(n) {
  return n < 1e9 ? String(n) : n.toExponential(1).replace("e+", "e");
}

function count(n, one, many) {
  return `${number(n)} ${n === 1 ? one : many}`;
}

// textOf is the address that is n after the first of a block.
function textOf(first, n) {
  if (first.includes(".")) {
    const dot = first.lastIndexOf(".") + 1;
    return first.slice(0, dot) + (Number(first.slice(dot)) + n);
  }
  const colon = first.lastIndexOf(":") + 1;
  const last = parseInt(first.slice(colon) || "0", 16) + n;
  return last === 0 ? first : first.slice(0, colon) + last.toString(16);
}

// ---- what is shown

// redraw draws a section anew if what it shows is another than before.
function redraw(id, of, draw) {
  const text = JSON.stringify(of);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  $(id).replaceChildren(...draw(of));
}

function show(next) {
  doc = next;
  held = new Map();
  for (const p of doc.pools) p.held?.forEach((a, place) => held.set(a.a, { ...a, pool: p, place }));
  redraw("summary", [doc.cluster, doc.class, doc.leader, doc.services, doc.addresses, doc.nodes.length], summary);
  redraw("problems", [doc.problems, doc.unread ?? []], problems);
  pools();
  redraw("nodes", [doc.nodes, doc.pools.map((p) => p.held?.map((a) => [a.a, a.n, a.st]))], nodes);
  $("routers").hidden = doc.peers.length === 0;
  redraw("peers", doc.peers, peers);
  redraw("moves", doc.moves, moves);
  drawChosen();
  search();
}

function summary() {
  const part = (label, words, title = "") => [make("span", { title }, `${label} `, make("b", { textContent: words })), " · "];
  const leader = doc.leader ?? "nobody"; // its host and, behind the last _, which run of it
  return [
    ...part("cluster", doc.cluster || "?"), ...part("class", doc.class), ...part("leader", leader.replace(/_[^_]*$/, ""), leader),
    `${count(doc.nodes.length, "node", "nodes")}, ${count(doc.services, "Service", "Services")}, ${count(doc.addresses, "address", "addresses")}`,
  ];
}

const marks = { Problem: "✗", Warning: "!", Note: "·" };
const tones = { Problem: "bad", Warning: "warn", Note: "faint" };
const fewProblems = 8;

function problems([list, unread]) {
  const rows = list.map((f) => make("div", { className: `problem row ${f.severity}` },
    make("span", { className: tones[f.severity], textContent: marks[f.severity], title: f.severity }),
    make("p", {}, f.about?.length ? [make("b", { textContent: some(f.about) }), ": "] : [], f.says),
    f.fix && make("p", { className: "faint", textContent: `→ ${f.fix}` })));
  const lost = unread.map((u) => make("div", { className: "problem row Warning" },
    make("span", { className: "warn", textContent: "!" }), make("p", { textContent: `could not read ${u}` })));
  if (rows.length + lost.length === 0) return [make("p", { className: "good", textContent: "✓ Nothing is wrong." })];
  if (rows.length <= fewProblems) return [...lost, ...rows];
  return [...lost, ...rows.slice(0, fewProblems),
    make("details", {}, make("summary", { textContent: `and ${rows.length - fewProblems} more` }), rows.slice(fewProblems))];
}

function some(list, few = 5) {
  return list.length <= few ? list.join(", ") : `${list.slice(0, few).join(", ")} and ${list.length - few} more`;
}

// chip is a button that chooses an address.
function chip(a) {
  const bad = ["silent", "conflict"].includes(held.get(a)?.st);
  return make("button", { type: "button", className: bad ? "chip bad" : "chip", textContent: a, data: { address: a } });
}

const fewChips = 12;

function nodes([list]) {
  const own = new Map(list.map((n) => [n.node, []]));
  for (const a of held.values()) own.get(a.n)?.push(a.a);
  const rows = list.map((n) => {
    const mark = !n.ready ? ["✗", "bad"] : n.drained ? ["~", "warn"] : ["✓", "good"];
    const mine = own.get(n.node);
    const more = mine.length - fewChips;
    return make("tr", { className: "row" },
      cell(mark[0], `mark ${mark[1]}`), cell(n.node), cell(String(n.addresses), "n"),
      make("td", { className: "announces" }, make("div", { className: "chips" }, mine.slice(0, fewChips).map(chip), more > 0 && make("span", { className: "faint", textContent: `+${more}` }))),
      cell(n.sessions || "-"), cell(n.version || "-", "faint"), cell(`${n.drained ? "drained; " : ""}${n.says}`, `says ${n.ready ? "" : "bad"}`));
  });
  return [table(["", "node", "L2", "announces", "BGP", "version", ""], rows)];
}

function peers(list) {
  const rows = list.flatMap((p) => {
    const well = p.sessionsWanted > 0 && p.sessionsEstablished === p.sessionsWanted;
    const wanted = p.sessions.filter((s) => s.wanted);
    return [
      make("tr", { className: "row" },
        cell(well ? "✓" : "✗", `mark ${well ? "good" : "bad"}`), cell(p.name), cell(p.router, "mono"), cell(String(p.asn ?? "-"), "n"),
        cell(`${p.sessionsEstablished}/${p.sessionsWanted} up`), cell(""), cell(""), cell(String(p.routes), "n"), cell("")),
      ...wanted.map((s) => make("tr", { className: "row session" },
        cell(s.state === "Established" ? "✓" : "✗", `mark ${s.state === "Established" ? "good" : "bad"}`), cell(s.node), cell(""), cell(""),
        cell(s.state || "-"), make("td", {}, since(s.since)), cell(s.bfd || "-", s.bfd && s.bfd !== "Up" ? "bad" : ""), cell(String(s.routes), "n"), cell(s.says ?? "", "says"))),
    ];
  });
  return [table(["", "router", "address", "AS", "sessions", "since", "BFD", "routes", ""], rows)];
}

function cell(text, className = "") {
  return make("td", { textContent: text, className });
}

const toTheRight = ["L2", "AS", "routes"];

function table(heads, rows) {
  return make("table", {},
    make("thead", {}, make("tr", {}, heads.map((h) => make("th", { textContent: h, scope: "col", className: toTheRight.includes(h) ? "n" : "" })))),
    make("tbody", {}, rows));
}

const kinds = { owner: "⇄", session: "↔", speaker: "◉", service: "◇" };

function moves(list) {
  if (list.length === 0) return [make("li", { className: "faint", textContent: "nothing yet" })];
  return list.map((m) => make("li", { className: "row" },
    since(m.at), make("span", { className: m.bad ? "bad" : "faint", textContent: m.bad ? "✗" : kinds[m.kind], title: m.kind }),
    make("p", {}, m.kind === "owner" ? chip(m.about) : make("b", { textContent: m.about }), ` ${m.says}`)));
}

// ---- maps of pools

// pools has a view for each pool, and changes in it only what has changed.
function pools() {
  const seen = new Set();
  const list = doc.pools.map((p) => {
    const key = `${p.name} ${p.family}`;
    seen.add(key);
    const layout = JSON.stringify([p.columns, p.rows, p.avoided, p.runs]);
    let view = views.get(key);
    if (view?.layout !== layout) view = replace(view, newView(p, key, layout));
    view.update(p);
    return view.root;
  });
  for (const key of views.keys()) if (!seen.has(key)) views.delete(key);
  if (list.length === 0) list.push(make("p", { className: "faint", textContent: "There is no pool." }));
  const now = $("pools").children;
  if (list.length !== now.length || list.some((e, i) => e !== now[i])) $("pools").replaceChildren(...list);
}

// replace puts a view where another was, for the keyboard too.
function replace(old, view) {
  views.set(view.key, view);
  if (old) {
    const focused = old.root.contains(document.activeElement);
    old.root.replaceWith(view.root);
    if (focused) view.box?.focus();
  }
  return view;
}

function newView(p, key, layout) {
  const head = make("h3");
  const root = make("article", { className: "pool", data: { pool: p.name, family: p.family } }, head);
  const view = { key, layout, root, at: -1, cells: [] };
  if (p.rows) addMap(view, p);
  if (p.runs) addRuns(view, p);
  view.update = (pool) => {
    view.pool = pool;
    drawHead(head, pool);
    view.paint?.(pool);
  };
  return view;
}

function drawHead(head, p) {
  const whole = p.used + p.free;
  const bar = make("b");
  bar.style.width = `${whole ? Math.max(100 * p.used / whole, p.used ? 2 : 0) : 0}%`;
  head.replaceChildren(
    p.name, make("span", { className: "faint", textContent: p.family }), make("span", { className: "bar" }, bar),
    make("span", { textContent: `${number(p.used)} used, ${number(p.free)} free` }),
    make("span", { className: p.ready ? "faint" : "bad", textContent: p.says }));
}

// addMap draws a cell for each address. A pool may have thousands of them: so they
// have one listener, and are told apart by their place.
function addMap(view, p) {
  const map = make("div", { className: `map c${p.columns}`, tabIndex: 0 });
  map.setAttribute("role", "listbox");
  map.setAttribute("aria-label", `addresses of pool ${p.name}, ${p.family}: arrows move, Enter chooses`);
  const parts = [];
  let line = -1;
  let block = "";
  view.place = []; // cell -> its line and column
  for (const r of p.rows) {
    if (r.at !== block) {
      block = r.at;
      line++;
      const label = make("code", { textContent: block, className: line % 2 ? "odd" : "" });
      label.style.gridColumnStart = 1;
      parts.push(label);
    }
    for (let i = 0; i < r.count; i++) {
      const e = make("i", { className: "cell" });
      if (i === 0) e.style.gridColumnStart = r.from + 2;
      e.setAttribute("role", "option");
      view.place.push({ line, column: r.from + i, block });
      view.cells.push(e);
      parts.push(e);
    }
  }
  map.append(...parts);
  view.root.append(map);
  const index = new Map(view.cells.map((e, i) => [e, i]));
  const address = (i) => textOf(view.place[i].block, view.place[i].column);
  listen(view, map, index, (i) => choose({ address: address(i) }), (i, key) => step(view, i, key));
  map.addEventListener("pointerover", (event) => {
    const i = index.get(event.target);
    if (i !== undefined) event.target.title = titleOf(address(i));
  });
  const base = view.cells.map(() => "cell");
  for (const i of p.avoided ?? []) base[i] = "cell withheld";
  view.paint = (pool) => {
    const now = base.slice();
    for (const a of pool.held ?? []) now[a.i] = `cell ${a.st}`;
    now.forEach((name, i) => {
      const e = view.cells[i];
      if (e.dataset.is !== name) {
        e.dataset.is = e.className = name;
      }
    });
  };
  view.find = () => (chosen.address === undefined ? -1 : view.place.findIndex((_, i) => address(i) === chosen.address));
}

function titleOf(address) {
  const a = held.get(address);
  return a ? `${address}: ${[states[a.st][0], ...(a.s ?? []), a.n].filter(Boolean).join(", ")}` : address;
}

// step is the cell that a key leads to.
function step(view, i, key) {
  const { line, column } = view.place[i];
  const inLine = (l) => {
    let best = i;
    view.place.forEach((p, j) => {
      if (p.line === l && (best === i || Math.abs(p.column - column) < Math.abs(view.place[best].column - column))) best = j;
    });
    return best;
  };
  switch (key) {
    case "ArrowLeft": return i - 1;
    case "ArrowRight": return i + 1;
    case "ArrowUp": return inLine(line - 1);
    case "ArrowDown": return inLine(line + 1);
    case "Home": return 0;
    default: return view.cells.length - 1;
  }
}

// addRuns draws a bar: how long a part of it is grows with the logarithm of how many
// addresses it stands for.
function addRuns(view, p) {
  const bar = make("div", { className: "runs", tabIndex: 0 });
  bar.setAttribute("role", "listbox");
  bar.setAttribute("aria-label", `runs of addresses of pool ${p.name}, ${p.family}: arrows move, Enter chooses`);
  for (const r of p.runs) {
    const e = make("i", { className: `cell ${r.st ?? ""}`, title: `${r.from} - ${r.to}: ${number(r.used ?? 0)} of ${number(r.size)} used` });
    e.setAttribute("role", "option");
    e.style.flexGrow = Math.log2(1 + r.size);
    view.cells.push(e);
  }
  bar.append(...view.cells);
  view.root.append(bar, make("div", { className: "ends" }, make("code", { textContent: p.runs[0].from }), make("code", { textContent: p.runs.at(-1).to })));
  const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
  listen(view, bar, new Map(view.cells.map((e, i) => [e, i])), (i) => choose({ pool: view.key, from: p.runs[i].from }),
    (i, key) => (key === "Home" ? 0 : key === "End" ? view.cells.length - 1 : i + steps[key]));
  view.find = () => {
    const a = held.get(chosen.address);
    return p.runs.findIndex((r) => (chosen.pool === view.key && r.from === chosen.from) || (a && inRun(r, view.pool, a)));
  };
}

const keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];

function listen(view, box, index, pick, next) {
  view.box = box;
  box.addEventListener("click", (event) => {
    const i = index.get(event.target);
    if (i !== undefined) pick(i);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      if (view.at >= 0) pick(view.at);
    } else if (keys.includes(event.key)) {
      const i = view.at < 0 ? 0 : next(view.at, event.key);
      mark(view, Math.min(Math.max(i, 0), view.cells.length - 1));
      if (view.place) pick(view.at);
    } else {
      return;
    }
    event.preventDefault();
  });
}

// mark shows where the user is in a map.
function mark(view, i) {
  if (view.at >= 0) {
    view.cells[view.at]?.classList.remove("at");
    view.cells[view.at]?.removeAttribute("id");
  }
  view.at = i;
  if (i < 0) {
    view.box?.removeAttribute("aria-activedescendant");
    return;
  }
  const e = view.cells[i];
  e.classList.add("at");
  e.id = `at-${view.key}`.replaceAll(" ", "-");
  if (view.place) e.setAttribute("aria-label", titleOf(textOf(view.place[i].block, view.place[i].column)));
  view.box.setAttribute("aria-activedescendant", e.id);
}

// ---- the address that was chosen

function choose(what) {
  chosen = what;
  drawChosen();
  search();
}

let explained = { address: "", text: "" };

async function explain(address) {
  const answer = await fetch(`explain?address=${encodeURIComponent(address)}`);
  explained = { address, text: await answer.text() };
  const pre = document.querySelector("#chosen pre");
  if (pre && chosen?.address === address) pre.textContent = explained.text;
}

function drawChosen() {
  for (const view of views.values()) {
    mark(view, chosen && view.find ? view.find() : -1);
  }
  const parts = chosen === null ? [make("p", { className: "faint", textContent: "Choose a cell, or search: / leads to the search field, arrows move in a map, Escape leaves." })]
    : chosen.address !== undefined ? aboutAddress(chosen.address) : aboutRun();
  $("chosen").replaceChildren(...parts);
  if (chosen?.address !== undefined) explain(chosen.address).catch(() => {}); // the header says that the server is gone
}

function fields(...pairs) {
  return make("dl", {}, pairs.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", {}, value)]));
}

function aboutAddress(address) {
  const a = held.get(address);
  const told = a ? doc.tellers[a.b ?? 0] : [];
  return [
    make("h2", {}, make("i", { className: `cell ${a?.st ?? ""}` }), address),
    a ? fields(
      ["State", states[a.st].join(": ")], ["Service", a.s?.join(", ")], ["Pool", a.pool.name], ["Given", a.t && [since(a.t), " ago"]],
      ["Layer 2", a.n && [a.n, a.o ? [", since ", since(a.o)] : []].flat(2)], ["Routers", told.length > 0 && `told by ${some(told, 8)}`], ["Claim", a.k], ["Why", a.w],
    ) : "",
    make("pre", { textContent: explained.address === address ? explained.text : "…" }),
  ];
}

const fewOfRun = 200;

function aboutRun() {
  const p = views.get(chosen.pool)?.pool;
  const r = p?.runs?.find((x) => x.from === chosen.from);
  if (!r) return [make("p", { className: "faint", textContent: "These addresses are no longer a run of their own." })];
  const list = (p.held ?? []).slice(r.first ?? 0, (r.first ?? 0) + (r.used ?? 0));
  return [
    make("h2", {}, make("i", { className: `cell ${r.st ?? ""}` }), `${r.from} - ${r.to}`),
    fields(["Pool", p.name], ["Addresses", `${number(r.used ?? 0)} of ${number(r.size)} used`]),
    make("div", { className: "chips" }, list.slice(0, fewOfRun).map((a) => chip(a.a)), list.length > fewOfRun ? make("span", { className: "faint", textContent: `+${list.length - fewOfRun}` }) : ""),
  ];
}

// ---- search

const fewFound = 40;

function matches(a, words) {
  return [a.a, a.n, a.k, ...(a.s ?? [])].some((text) => text?.toLowerCase().includes(words));
}

function search() {
  const words = $("search").value.trim().toLowerCase();
  const found = words && doc ? [...held.values()].filter((a) => matches(a, words)) : [];
  $("pools").classList.toggle("searching", words !== "");
  for (const e of document.querySelectorAll("i.hit")) e.classList.remove("hit");
  for (const a of found) {
    const view = views.get(`${a.pool.name} ${a.pool.family}`);
    const cells = view?.place ? [view.cells[a.i]] : view?.cells.filter((_, i) => inRun(view.pool.runs[i], view.pool, a)) ?? [];
    for (const e of cells) e?.classList.add("hit");
  }
  for (const row of document.querySelectorAll(".row")) row.hidden = words !== "" && !row.textContent.toLowerCase().includes(words);
  $("found").hidden = words === "";
  if (words === "") return;
  const list = make("div", { className: "chips" }, found.slice(0, fewFound).map((a) => chip(a.a)), found.length > fewFound ? make("span", { className: "faint", textContent: `+${found.length - fewFound}` }) : "");
  $("found").replaceChildren(make("h2", { textContent: `${count(found.length, "address", "addresses")} found` }), list);
}

function inRun(run, pool, a) {
  const first = run.first ?? 0;
  return a.pool === pool && a.place >= first && a.place < first + (run.used ?? 0);
}

// enter chooses the first that was found, or any address that was typed.
function enter() {
  const first = document.querySelector("#found .chip")?.dataset.address;
  const typed = $("search").value.trim();
  if (first || /^[0-9a-f.:]+$/i.test(typed)) choose({ address: first ?? typed });
}

// ---- light and dark

const themes = ["auto", "light", "dark"];

function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  localStorage.setItem("theme", name);
  $("theme").textContent = `Theme: ${name}`;
}

// ---- begin

function begin() {
  setTheme(themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");
  $("theme").addEventListener("click", () => setTheme(themes[(themes.indexOf(localStorage.getItem("theme")) + 1) % themes.length]));
  $("legend").append(...Object.entries(states).map(([name, [word, sentence]]) => make("li", { title: sentence }, make("i", { className: `cell ${name}` }), word)));
  $("search").addEventListener("input", search);
  $("search").addEventListener("keydown", (event) => event.key === "Enter" && enter());
  document.addEventListener("click", (event) => {
    const address = event.target.closest?.(".chip")?.dataset.address;
    if (address) choose({ address });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target !== $("search")) {
      event.preventDefault();
      $("search").focus();
    } else if (event.key === "Escape") {
      $("search").value = "";
      choose(null);
    }
  });
  drawChosen();
  setInterval(tick, 1000);
  const source = new EventSource("events");
  const tell = (words, lost) => {
    $("live").textContent = words;
    $("live").classList.toggle("lost", lost);
  };
  source.onmessage = (event) => {
    show(JSON.parse(event.data));
    tell("live", false);
  };
  source.onerror = () => tell("kubectl fairlead ui has ended, or cannot be reached", true);
}

begin();
