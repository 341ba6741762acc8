// The page: which run is shown, which step is chosen, and the keys.

const story = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const runs = new Map(story.runs.map((run) => [run.name, run]));
const views = [...story.runs.map((run) => ({ name: run.name, title: run.title, shows: [run.name] }))];
if (runs.has("passing")) views.push({ name: "both", title: "side by side", shows: ["failing", "passing"] });

const state = { view: "failing", run: "failing", step: 0, fold: false };
let charts = new Map();

function start() {
  for (const id of ["app", "legend"]) byId(id).hidden = false;
  byId("text").open = false;
  for (const race of story.races) byId("races").append(element("span", "", race));
  showVerdict();
  showBackground();
  showKey();
  views.forEach((view, place) => {
    const run = runs.get(view.shows[0]);
    const count = view.shows.length > 1 ? "" : `: ${run.steps.length + run.left_out} steps ${run.fails ? "✗" : "✓"}`;
    const button = element("button", "", `${view.title}${count}`);
    button.type = "button";
    button.title = `Key ${place + 1}`;
    button.addEventListener("click", () => showView(view.name));
    view.button = button;
    byId("views").append(button);
  });
  const moves = { first: () => go(0), last: () => go(Infinity), back: () => move(-1), forward: () => move(1), next: () => conflict(1), previous: () => conflict(-1) };
  for (const [id, act] of Object.entries(moves)) byId(id).addEventListener("click", act);
  byId("fold").addEventListener("change", () => { state.fold = byId("fold").checked; showView(state.view); });
  document.addEventListener("keydown", onKey);
  const asked = new URLSearchParams(location.hash.slice(1));
  const failing = runs.get("failing");
  state.fold = asked.has("fold") ? asked.get("fold") === "1" : failing.steps.length > 36;
  byId("fold").checked = state.fold;
  state.step = asked.has("step") ? Number(asked.get("step")) - 1 : firstMark(failing);
  showView(views.some((view) => view.name === asked.get("view")) ? asked.get("view") : "failing", state.step);
}

function firstMark(run) {
  const marked = (run.pair || []).filter((i) => i !== null);
  return marked.length ? Math.min(...marked) : run.steps.length - 1;
}

function showVerdict() {
  const box = byId("verdict"), failing = runs.get("failing");
  const where = failing.in_race ? `Fails in step ${failing.steps.at(-1)?.index}` : "Fails at the end, when all is checked";
  box.append(element("p", "bad", element("b", "", failing.fails ? `${where}: ` : "Nothing went wrong: "), story.violation));
  for (const guard of story.off) box.append(element("p", "", "Without ", element("b", "", guard.name), `: ${guard.does}.`));
  if (failing.pair && !failing.pair.includes(null)) {
    const line = element("p", "", "The conflict: ");
    failing.pair.forEach((i, place) => {
      const step = failing.steps[i];
      line.append(element("b", "letter", "AB"[place]), ` ${step.lane} ${step.text} (step ${step.index})`, place ? "." : ", then ");
    });
    box.append(line);
  }
  if (story.otherwise) box.append(element("p", "good", story.otherwise));
}

function showBackground() {
  for (const guard of story.off) {
    const facts = [guard.races.join(" "), guard.path, `source: ${guard.source}`].filter(Boolean).join("; ");
    byId("off").append(element("p", "", element("b", "", guard.name), `: ${guard.does}.`, element("br", ""), element("span", "muted", facts)));
  }
  if (story.lacking) byId("off").append(element("p", "", `Preset ${story.preset}: ${story.lacking} more are off.`));
  byId("guards").hidden = !story.off.length && !story.lacking;
  const told = story.about.split(/\n\s*\n/).slice(1).filter(Boolean);
  for (const text of told) byId("story").append(element("p", "", text));
  byId("story").hidden = !told.length;
  byId("command").textContent = story.replay;
  byId("token").textContent = story.token;
  for (const button of document.querySelectorAll("[data-copy]")) {
    const source = byId(button.dataset.copy);
    button.parentElement.hidden = !source.textContent;
    button.addEventListener("click", () => copy(source, button));
  }
  byId("replay").hidden = !story.replay && !story.token;
}

function copy(source, button) {
  const done = () => { button.textContent = "copied"; };
  const select = () => {
    getSelection().selectAllChildren(source);
    if (document.execCommand("copy")) done();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(source.textContent).then(done, select);
  else select();
}

function showKey() {
  const chips = [["S", "stable"], ["U", "unused"], ["P", "potential volatile: kept while C is 1"], ["V", "volatile: the host may drop it"],
    ["r", "resident"], ["p", "paged out"], ["z", "gone or zero"]];
  for (const [letter, words] of chips) {
    const chip = element("span", "chip", letter);
    chip.style.background = `var(--${letter})`;
    chip.style.color = `var(--${letter}-fg)`;
    if (letter === "z") chip.style.border = "1px dashed var(--muted)";
    byId("key").append(element("span", "", chip, words));
  }
  const risk = element("span", "chip", "!");
  risk.style.borderColor = "var(--bad)";
  risk.style.background = "var(--bad-bg)";
  byId("key").append(element("span", "", risk, "as things stand the host may discard it"));
}

function showView(name, step) {
  const view = views.find((entry) => entry.name === name);
  if (!view.shows.includes(state.run)) state.run = view.shows[0];
  const changed = state.view !== name;
  state.view = name;
  for (const entry of views) entry.button.setAttribute("aria-pressed", String(entry === view));
  const both = view.shows.length > 1;
  byId("main").classList.toggle("both", both);
  charts = new Map();
  byId("charts").replaceChildren(...view.shows.map((shown) => drawChart(runs.get(shown), both)));
  if (both) followEachOther();
  const run = runs.get(state.run);
  if (step === undefined && changed) step = firstMark(run);
  go(step === undefined ? state.step : step);
}

function drawChart(run, both) {
  const like = both && run.name === "passing" ? runs.get("failing") : null;
  const shown = both && !like ? { ...run, common: runs.get("passing").common } : { ...run, common: both ? run.common : 0 };
  const room = byId("charts").clientWidth / (both && innerWidth > 1150 ? 2 : 1) - (both ? 16 : 4);
  const layout = fittingLayout(shown, { fold: state.fold, compact: both, like }, room);
  const pick = (i) => { state.run = run.name; go(i); };
  const look = (i) => showStep(byId("panel"), i === null ? runs.get(state.run) : run, i === null ? state.step : i);
  const drawn = drawBody(layout, pick, look);
  const verdict = element("b", run.fails ? "bad" : "good", run.fails ? "✗ fails" : "✓ holds");
  const title = element("h3", "", `${run.title}, ${run.steps.length + run.left_out} steps: `, verdict);
  const scroll = element("div", "scroll", element("div", "head", drawHead(layout)), drawn.body);
  scroll.firstChild.style.width = `${layout.width}px`;
  const chart = element("div", "chart", title, scroll);
  if (run.left_out) title.after(element("p", "notice", `The first ${run.left_out} steps are not shown.`));
  charts.set(run.name, { layout, scroll, ...drawn });
  return chart;
}

function followEachOther() {
  const boxes = [...charts.values()].map((chart) => chart.scroll);
  for (const box of boxes) box.addEventListener("scroll", () => boxes.forEach((other) => { other.scrollTop = box.scrollTop; }));
}

function go(i) {
  const run = runs.get(state.run);
  state.step = Math.max(0, Math.min(i, run.steps.length - 1));
  const shown = run.steps[state.step];
  byId("where").textContent = shown ? `step ${shown.index} of ${run.steps.length + run.left_out}` : "no steps";
  for (const [name, chart] of charts) mark(chart, name === state.run ? state.step : null);
  if (shown) showStep(byId("panel"), run, state.step);
}

function mark(chart, i) {
  const row = i === null ? null : chart.layout.rowOf.get(i);
  chart.layout.rows.forEach((entry, place) => {
    const group = chart.elements[place];
    group.classList.toggle("selected", entry === row);
    if (group.hasAttribute("tabindex")) group.setAttribute("tabindex", entry === row ? "0" : "-1");
  });
  for (const { arrow, line } of chart.arrows) line.classList.toggle("lit", arrow.tie !== "conflict" && i !== null && (arrow.source === i || arrow.target === i));
  if (row) {
    const { scroll } = chart, room = scroll.clientHeight - HEAD;
    if (row.y < scroll.scrollTop) scroll.scrollTop = row.y;
    else if (row.y + ROW > scroll.scrollTop + room) scroll.scrollTop = row.y + ROW - room;
  }
}

// One row on or back: what is folded is stepped over as one.
function move(by) {
  const { layout } = charts.get(state.run);
  const place = layout.rows.indexOf(layout.rowOf.get(state.step)) + by;
  const row = layout.rows[place];
  if (row && row.kind !== "before" && row.kind !== "ending") go(row.first);
}

function conflict(by) {
  const { conflicts } = runs.get(state.run);
  const next = by > 0 ? conflicts.find((i) => i > state.step) : conflicts.findLast((i) => i < state.step);
  if (next !== undefined) go(next);
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, pre")) return;
  const keys = { ArrowRight: () => move(1), j: () => move(1), ArrowLeft: () => move(-1), k: () => move(-1), n: () => conflict(1), p: () => conflict(-1),
    Home: () => go(0), End: () => go(Infinity), f: () => byId("fold").click() };
  const act = keys[event.key] || (views[Number(event.key) - 1] && (() => showView(views[Number(event.key) - 1].name)));
  if (!act) return;
  event.preventDefault();
  act();
}

start();
