// Where everything goes: rows, lanes and strips of one run, in pixels. Nothing is drawn here.

const ROW = 27, HEAD = 44, NUMBER = 40, BADGES = 46, SLOT = 15, CHANNEL = 7, BOX_PAD = 8, INDENT = 16, CHIP = 30;
const CELLS = { usage: 34, content: 30, change: 22, risk: 16, counts: 46, use: 28 };
const QUIET = new Set(["lru", "referenced", "active", "uptodate"]);

const pen = document.createElement("canvas").getContext("2d");

function textWidth(text, small) {
  pen.font = `${small ? 10.5 : 12.5}px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif`;
  return pen.measureText(text).width;
}

function shortened(text, room, small) {
  if (textWidth(text, small) <= room) return text;
  let end = text.length;
  while (end > 1 && textWidth(text.slice(0, end) + "…", small) > room) end--;
  return text.slice(0, end) + "…";
}

// Whether the host may throw the page's content away as things stand.
function atRisk(page) {
  return page.state === "Vr" || (page.state === "Pr" && !page.changed);
}

function loud(page) {
  return page.flags.filter((flag) => !QUIET.has(flag)).join(" ");
}

// The state to write on a step's box: what an ESSA leaves its page in, or what another step made of
// one. Empty if there is none.
function stateShown(run, step, i) {
  const before = i > 0 ? run.steps[i - 1].pages : run.before;
  if (step.look !== "essa") {
    const place = run.pfns.findIndex((_, at) => before[at].state !== step.pages[at].state);
    return place < 0 ? "" : step.pages[place].state;
  }
  const named = step.accesses.find((access) => access.kind === "host");
  const place = named ? run.pfns.indexOf(named.number) : -1;
  return place < 0 || step.taken ? "" : step.pages[place].state;
}

// Which steps are folded: three and more in a row that matter little. The steps that two runs have
// in common are folded as in the other one, so that the two stay side by side.
function foldedRows(run, folding, like) {
  const rank = (i) => (like && i < run.common ? like.steps[i].rank : run.steps[i].rank);
  const rows = [], count = run.steps.length;
  const reach = (i, fits) => {
    let end = i;
    while (end < count && fits(end) && (i < run.common) === (end < run.common)) end++;
    return end;
  };
  for (let i = 0; i < count; ) {
    // What matters least is folded across lanes; the rest lane by lane.
    let end = folding ? reach(i, (k) => rank(k) >= 4) : i;
    if (end - i < 6) end = folding ? reach(i, (k) => rank(k) >= 3 && run.steps[k].lane === run.steps[i].lane) : i;
    if (end - i >= 3) rows.push({ kind: "fold", first: i, last: end - 1, mixed: run.steps.slice(i, end).some((step) => step.lane !== run.steps[i].lane) });
    else for (let k = i; k < Math.max(end, i + 1); k++) rows.push({ kind: "step", first: k, last: k });
    i = Math.max(end, i + 1);
  }
  return rows;
}

function foldText(run, row) {
  const counts = new Map();
  for (let i = row.first; i <= row.last; i++) counts.set(run.steps[i].label, (counts.get(run.steps[i].label) || 0) + 1);
  const named = [...counts].map(([label, n]) => (n > 1 ? `${label} ×${n}` : label));
  const lanes = new Set(run.steps.slice(row.first, row.last + 1).map((step) => step.lane));
  return `… ${row.last - row.first + 1} steps${lanes.size > 1 ? ` of ${[...lanes].join(", ")}` : ""}: ${named.join(", ")}`;
}

function ending(run) {
  if (!run.fails) return "✓ it holds: nothing went wrong";
  const what = run.violations[0].split("\n")[0].replace(/:? pfn \d+ flags .*$/, "");
  return run.in_race ? `✗ ${what}` : `✗ at the end, when all is checked: ${what}`;
}

// The layout in which lanes are as wide apart as the room allows; the flags go where it does not.
function fittingLayout(run, options, room) {
  for (const compact of options.compact ? [true] : [false, true]) {
    for (let textMax = 340; textMax > (compact ? 70 : 180); textMax -= 10) {
      const layout = layoutOf(run, { ...options, textMax, compact });
      if (layout.width <= room) return layout;
    }
  }
  return layoutOf(run, { ...options, textMax: 70, compact: true });
}

function layoutOf(run, options) {
  const rows = [{ kind: "before", first: -1, last: -1 }, ...foldedRows(run, options.fold, options.like),
    { kind: "ending", first: run.steps.length, last: run.steps.length }];
  if (run.common) {
    const place = rows.findIndex((row) => row.first >= run.common);
    rows.splice(place, 0, { kind: "part", first: run.common, last: run.common - 1 });
  }
  rows.forEach((row, place) => { row.y = place * ROW; });
  const rowOf = new Map();
  for (const row of rows) for (let i = row.first; i <= row.last; i++) rowOf.set(i, row);
  const arrows = arrowsOf(run, rowOf);
  const lanes = lanesOf(run, rows, rowOf, arrows, options);
  const pages = pagesOf(run, lanes.end + 14, options);
  return { run, rows, rowOf, arrows, lanes, pages, width: pages.end + 6, height: rows.length * ROW };
}

// The arrows between rows that are shown; the conflict is one of them, and the first to be seen.
function arrowsOf(run, rowOf) {
  const found = new Map();
  const add = (source, target, tie, what) => {
    const from = rowOf.get(source), to = rowOf.get(target);
    const folded = from.kind === "fold" || to.kind === "fold";
    if (from === to || from.mixed || to.mixed || (folded && tie !== "delivery")) return;
    const key = `${from.y} ${to.y}`;
    if (!found.has(key)) found.set(key, { source, target, tie, what });
  };
  if (run.pair && !run.pair.includes(null)) {
    const [a, b] = [Math.min(...run.pair), Math.max(...run.pair)];
    if (run.steps[a].lane !== run.steps[b].lane) add(a, b, "conflict", run.fails ? "the conflict" : "the same two, the other way round");
  }
  for (const arrow of run.arrows) add(arrow.source, arrow.target, arrow.tie, arrow.what);
  return [...found.values()];
}

// Gives every interval a slot in which it meets no other; returns how many slots there are.
function slots(intervals, max) {
  const ends = [];
  for (const interval of intervals) {
    let slot = ends.findIndex((end) => end < interval.from);
    if (slot < 0) slot = ends.length < max ? ends.length : interval.from % max;
    ends[slot] = interval.to;
    interval.slot = slot;
  }
  return ends.length;
}

function lanesOf(run, rows, rowOf, arrows, options) {
  const byName = new Map();
  let x = NUMBER + BADGES;
  run.lanes.forEach((name, place) => {
    const lane = { name, place, spans: [], channel: [] };
    lane.spans = run.spans.filter((span) => span.lane === name && showsSpan(rowOf, span)).map((span) => ({
      ...span,
      from: rowOf.get(span.first).y,
      to: span.last === null ? (rows.length - 2) * ROW : rowOf.get(span.last).y,
    }));
    const bars = slots(lane.spans, 5);
    lane.channel = arrows.filter((arrow) => channelLane(run, arrow) === name).map((arrow) => {
      arrow.from = rowOf.get(arrow.source).y;
      arrow.to = rowOf.get(arrow.target).y;
      return arrow;
    });
    const tracks = slots(lane.channel, 6);
    lane.x = x;
    lane.channelX = x + 4;
    lane.barsX = x + 8 + tracks * CHANNEL;
    lane.boxX = lane.barsX + bars * SLOT + 4;
    const width = textWidth(name) + 6;
    lane.widest = rows.reduce((most, row) => Math.max(most, laneText(run, row, name)), width);
    lane.width = Math.max(width, Math.min(options.textMax, lane.widest), 70);
    x = lane.boxX + lane.width + 12;
    byName.set(name, lane);
  });
  // A box may run on over the lanes at its right, which do nothing in its row.
  const all = [...byName.values()];
  const end = all.reduce((most, lane) => Math.max(most, lane.boxX + Math.min(lane.widest, Math.max(options.textMax * 2, 260))), x);
  return { byName, list: all, end };
}

// How wide the box of a row is, if it stands in this lane.
function laneText(run, row, name) {
  if (row.kind !== "step" || run.steps[row.first].lane !== name) return 0;
  const step = run.steps[row.first];
  return textWidth(step.text) + 2 * BOX_PAD + (step.nested ? INDENT : 0) + (stateShown(run, step, row.first) ? CHIP : 0) + 22;
}

// Not what begins and ends within one fold.
function showsSpan(rowOf, span) {
  const first = rowOf.get(span.first);
  return first.kind !== "fold" || span.last === null || rowOf.get(span.last) !== first;
}

// An arrow runs down left of the lane at its right end, where no boxes are.
function channelLane(run, arrow) {
  const [from, to] = [run.steps[arrow.source].lane, run.steps[arrow.target].lane];
  return run.lanes.indexOf(from) < run.lanes.indexOf(to) ? to : from;
}

function pagesOf(run, start, options) {
  let x = start;
  const list = run.pfns.map((pfn, place) => {
    const seen = [run.before[place], ...run.steps.map((step) => step.pages[place])];
    const flags = options.compact ? 0 : Math.min(230, Math.max(60, ...seen.map((page) => textWidth(loud(page), true) + 10)));
    const page = { pfn, place, x, usage: x, content: x + CELLS.usage, change: x + CELLS.usage + CELLS.content };
    page.risk = page.change + CELLS.change;
    page.counts = page.risk + CELLS.risk;
    page.use = page.counts + CELLS.counts;
    page.flags = page.use + CELLS.use;
    page.flagsWidth = flags;
    page.end = page.flags + flags;
    x = page.end + 10;
    return page;
  });
  return { list, end: x };
}
