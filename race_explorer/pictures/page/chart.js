// Draws one run as SVG from its layout. Text from the story is only ever set as text.

const SVG_SPACE = document.getElementById("seed").namespaceURI;

function svg(name, attributes, ...children) {
  const node = document.createElementNS(SVG_SPACE, name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  for (const child of children) node.append(child);
  return node;
}

function label(x, y, text, classes, title) {
  const node = svg("text", { x, y, class: classes || "" }, text);
  if (title) node.append(svg("title", {}, title));
  return node;
}

// A small text that lines may not run through.
function backed(x, y, text, title) {
  const group = svg("g", { "pointer-events": "none" });
  group.append(svg("rect", { x: x - 3, y: y - 8, width: textWidth(text, true) + 6, height: 16, class: "box fold" }));
  group.append(label(x, y, text, "small muted", title));
  return group;
}

function drawHead(layout) {
  const head = svg("svg", { width: layout.width, height: HEAD, class: "head", "aria-hidden": "true" });
  for (const lane of layout.lanes.list) head.append(label(lane.boxX, HEAD - 14, lane.name, "strong"));
  head.append(label(4, HEAD - 14, "step", "small muted"));
  for (const page of layout.pages.list) {
    const owner = layout.run.before[page.place].owner;
    head.append(label(page.x, 12, `page ${page.pfn}`, "strong", owner));
    const names = [["guest", page.usage, CELLS.usage], ["host", page.content, CELLS.content], ["C", page.change, CELLS.change], ["!", page.risk, CELLS.risk], ["ref/map", page.counts, CELLS.counts], ["use", page.use, CELLS.use]];
    for (const [name, x, width] of names) head.append(label(x + width / 2, HEAD - 10, name, "small muted mid"));
    if (page.flagsWidth) head.append(label(page.flags + 6, HEAD - 10, "flags", "small muted"));
  }
  return head;
}

function drawBody(layout, onPick, onLook) {
  const { run } = layout;
  const body = svg("svg", { width: layout.width, height: layout.height, role: "group", "aria-label": `${run.title}: ${run.steps.length} steps` });
  body.append(drawHatch());
  const rows = svg("g", {}), under = svg("g", {}), over = svg("g", {});
  body.append(rows, under, over);
  const elements = layout.rows.map((row) => {
    const group = drawRow(layout, row, onPick, onLook);
    rows.append(group);
    return group;
  });
  for (const lane of layout.lanes.list) drawLane(under, layout, lane);
  for (const page of layout.pages.list) drawStrip(over, layout, page);
  const arrows = layout.arrows.map((arrow) => drawArrow(over, layout, arrow));
  for (const group of elements) group.boxes.forEach((box) => over.append(box));
  return { body, elements, arrows };
}

function drawHatch() {
  const pattern = svg("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(svg("line", { x1: 0, y1: 0, x2: 0, y2: 5, class: "hatch" }));
  return svg("defs", {}, pattern);
}

function letterOf(run, i) {
  return run.pair && run.pair.includes(i) ? "AB"[run.pair.indexOf(i)] : "";
}

function drawRow(layout, row, onPick, onLook) {
  const { run } = layout, step = run.steps[row.first];
  const middle = row.y + ROW / 2;
  const group = svg("g", { class: "row" });
  group.boxes = [];
  if (row.kind === "part") {
    group.setAttribute("class", "ending");
    group.append(svg("line", { x1: 0, x2: layout.width, y1: middle + 9, y2: middle + 9, class: "part" }));
    group.boxes.push(backed(NUMBER + BADGES + 4, middle - 3, "up to here both runs are the same"));
    return group;
  }
  group.append(svg("rect", { x: 1, y: row.y + 0.5, width: layout.width - 2, height: ROW - 1, class: "ground", rx: 4 }));
  if (row.kind === "before" || row.kind === "ending") {
    const text = row.kind === "before" ? "before the race" : ending(run);
    group.setAttribute("class", row.kind === "before" ? "ending" : `ending ${run.fails ? "failing" : "holds"}`);
    const room = layout.lanes.end - NUMBER - BADGES;
    group.append(label(NUMBER + BADGES + 4, middle, shortened(text, room), row.kind === "before" ? "small muted" : "", text));
    return group;
  }
  group.setAttribute("role", "button");
  group.setAttribute("tabindex", "-1");
  group.addEventListener("click", () => onPick(row.first));
  group.addEventListener("focus", () => onLook(row.first));
  group.addEventListener("mouseenter", () => onLook(row.first));
  group.addEventListener("mouseleave", () => onLook(null));
  if (row.kind === "fold") return drawFold(layout, row, group);
  const letter = letterOf(run, row.first), failing = run.fails && run.in_race && row.first === run.steps.length - 1;
  const classes = ["row", letter && "marked", failing && "failing", !step.cone && "aside"];
  group.setAttribute("class", classes.filter(Boolean).join(" "));
  group.setAttribute("aria-label", `step ${step.index}, ${step.lane}: ${step.text}${letter ? `, conflict ${letter}` : ""}${failing ? ", here it fails" : ""}`);
  group.append(label(NUMBER - 6, middle, String(step.index), "small muted end"));
  drawBadges(group, middle, letter, failing);
  group.boxes.push(drawBox(layout, step, row.first, middle));
  if (step.reason === "the scheduler's choice") {
    const left = layout.lanes.byName.get(run.steps[row.first - 1].lane);
    const x = left.boxX < step.left ? left.boxX + 2 : Math.max(left.boxX + 2, step.right + 6);
    group.append(svg("line", { x1: NUMBER + BADGES, x2: layout.lanes.end - 4, y1: row.y, y2: row.y, class: "choice" }));
    group.boxes.unshift(backed(x, middle, "could have gone on"));
  }
  return group;
}

function drawBadges(group, middle, letter, failing) {
  let x = NUMBER + 10;
  if (letter) {
    group.append(svg("circle", { cx: x, cy: middle, r: 9.5, class: "badge" }), label(x, middle + 0.5, letter, "badge-text mid"));
    x += 22;
  }
  if (failing) group.append(svg("rect", { x: x - 9, y: middle - 9, width: 18, height: 18, rx: 3, class: "badge" }), label(x, middle + 0.5, "✗", "badge-text mid"));
}

function drawFold(layout, row, group) {
  const { run } = layout, lane = row.mixed ? layout.lanes.list[0] : layout.lanes.byName.get(run.steps[row.first].lane);
  const whole = foldText(run, row);
  group.setAttribute("aria-label", `folded: ${whole}`);
  group.append(label(NUMBER - 6, row.y + ROW / 2, `${run.steps[row.first].index}–`, "small muted end"));
  const text = shortened(whole, layout.lanes.end - lane.boxX - 8, true);
  group.boxes.push(backed(lane.boxX + 2, row.y + ROW / 2, text, whole));
  return group;
}

// A box in its lane. What an ESSA leaves the page in gives it its colour, and its letters.
function drawBox(layout, step, i, middle) {
  const lane = layout.lanes.byName.get(step.lane);
  const x = lane.boxX + (step.nested ? INDENT : 0);
  const letters = stateShown(layout.run, step, i), essa = step.look === "essa" && letters;
  const extra = letters ? CHIP : 0;
  const room = layout.lanes.end - x - 2 * BOX_PAD - extra - 10;
  const text = shortened(step.text, room);
  const width = Math.max(textWidth(text) + 2 * BOX_PAD + extra, 34), height = ROW - 7, top = middle - height / 2;
  const group = svg("g", { "pointer-events": "none" });
  const classes = `box ${step.look} ${essa ? essa[0] : ""}`;
  const round = step.look === "host" ? height / 2 : 4;
  if (step.look === "fault") {
    const points = [[x, top], [x + width, top], [x + width + 8, middle], [x + width, top + height], [x, top + height], [x + 6, middle]];
    group.append(svg("polygon", { points: points.map((p) => p.join(",")).join(" "), class: classes }));
  } else {
    group.append(svg("rect", { x, y: top, width, height, rx: round, class: classes }));
  }
  group.append(label(x + BOX_PAD, middle + 0.5, text, `label ${essa ? `on-${essa[0]}` : ""}`));
  if (letters) {
    const at = x + width - CHIP / 2 - 4;
    if (!essa) group.append(svg("rect", { x: at - 13, y: top + 3, width: 26, height: height - 6, rx: 3, class: letters[0] }));
    group.append(label(at, middle + 0.5, letters, `strong mid on-${letters[0]}`));
  }
  if (!step.cone) group.setAttribute("opacity", "0.5");
  step.left = x - 2;
  step.right = x + width + (step.look === "fault" ? 9 : 2);
  return group;
}

function drawLane(under, layout, lane) {
  const bottom = layout.height - ROW;
  under.append(svg("line", { x1: lane.boxX + 10, x2: lane.boxX + 10, y1: ROW, y2: bottom, class: "life", "pointer-events": "none" }));
  for (const span of lane.spans) {
    const x = lane.barsX + span.slot * SLOT, top = span.from + 4, height = Math.max(span.to - span.from + ROW - 8, 8);
    const last = span.last === null ? "the end" : `step ${layout.run.steps[span.last].index}`;
    const title = `${span.name}, from step ${layout.run.steps[span.first].index} to ${last}`;
    under.append(svg("rect", { x: x + 9, y: top, width: 4, height, class: `bar ${span.hold}` }, svg("title", {}, title)));
    const text = shortened(span.name, height, true);
    if (text.length > 2) {
      const at = `translate(${x + 4} ${top + textWidth(text, true) / 2}) rotate(-90)`;
      under.append(svg("text", { transform: at, class: "small muted mid" }, text, svg("title", {}, title)));
    }
  }
}

// One strip: runs of equal values are one cell, lettered at its top.
function drawStrip(over, layout, page) {
  const { run, rows } = layout, cells = svg("g", {});
  const at = (row) => (row.last < 0 ? run.before : run.steps[Math.min(row.last, run.steps.length - 1)].pages)[page.place];
  const column = (value, draw) => {
    for (let i = 0; i < rows.length; ) {
      let end = i + 1;
      while (end < rows.length && value(at(rows[end])) === value(at(rows[i]))) end++;
      draw(value(at(rows[i])), rows[i].y, (end - i) * ROW, i === 0);
      i = end;
    }
  };
  const cell = (x, width, names) => (value, y, height) => {
    const [shown, words] = names(value);
    cells.append(svg("rect", { x: x + 1, y: y + 1, width: width - 2, height: height - 2, rx: 3, class: shown.class }, svg("title", {}, words)));
    for (let row = 0; row * ROW < height; row += 12) {
      cells.append(label(x + width / 2, y + row * ROW + ROW / 2, shown.text, `strong mid on-${shown.class}`));
    }
  };
  column((seen) => seen.state[0], cell(page.usage, CELLS.usage, (v) => [{ text: v, class: v }, USAGES[v]]));
  column((seen) => seen.state[1], cell(page.content, CELLS.content, (v) => [{ text: v, class: v }, CONTENTS[v]]));
  column((seen) => seen.changed, cell(page.change, CELLS.change, (v) => [{ text: v ? "1" : "0", class: v ? "c1" : "c0" }, v ? "change bit set" : "change bit clear"]));
  column(atRisk, (value, y, height) => {
    if (!value) return;
    cells.append(svg("rect", { x: page.risk + 3, y: y + 1, width: CELLS.risk - 6, height: height - 2, class: "risk" }, svg("title", {}, RISK)));
    cells.append(label(page.risk + CELLS.risk / 2, y + ROW / 2, "!", "strong mid"));
  });
  column((seen) => `${seen.count}/${seen.mapcount}`, (value, y) => cells.append(label(page.counts + CELLS.counts / 2, y + ROW / 2, value, "small mid")));
  if (page.flagsWidth) {
    column((seen) => loud(seen), (value, y, height, first) => {
      cells.append(label(page.flags + 6, y + ROW / 2, shortened(value || (first ? "" : "–"), page.flagsWidth - 8, true), "small", value));
    });
  }
  column((seen) => seen.incarnation, (value, y, height, first) => {
    if (!first) cells.append(svg("line", { x1: page.x, x2: page.end - 2, y1: y, y2: y, class: "tick" }));
    cells.append(label(page.use + CELLS.use / 2, y + ROW / 2, `#${value}`, "small mid strong"));
  });
  over.append(cells);
}

const USAGES = { S: "guest: stable", U: "guest: unused", V: "guest: volatile", P: "guest: potential volatile" };
const RISK = "as things stand the host may discard it";
const CONTENTS = { r: "host: resident", p: "host: preserved on the paging device", z: "host: gone, or logically zero" };

function drawArrow(over, layout, arrow) {
  const { run } = layout, from = run.steps[arrow.source], to = run.steps[arrow.target];
  const lane = layout.lanes.byName.get(channelLane(run, arrow));
  const down = lane.channelX + (arrow.slot || 0) * CHANNEL;
  const rightwards = lane.name === to.lane;
  const fromRow = layout.rowOf.get(arrow.source), toRow = layout.rowOf.get(arrow.target);
  const side = (step, row, right) => (row.kind === "fold" ? layout.lanes.byName.get(step.lane).boxX : right ? step.right : step.left);
  const y1 = fromRow.y + ROW / 2, y2 = toRow.y + ROW / 2, half = (ROW - 7) / 2;
  const x1 = side(from, fromRow, rightwards), x2 = side(to, toRow, !rightwards);
  const bend = Math.min(6, Math.abs(y2 - y1) / 2), turn = rightwards ? 1 : -1;
  // Where a box reaches over the channel, the arrow leaves or meets it from below or above.
  const leaves = rightwards ? x1 > down - 4 : x1 < down + 4, meets = !rightwards && x2 > down - 12;
  const path = (leaves ? `M${down} ${y1 + half}` : `M${x1} ${y1} L${down - turn * bend} ${y1} Q${down} ${y1} ${down} ${y1 + bend}`)
    + (meets ? ` L${down} ${y2 - half - 4}` : ` L${down} ${y2 - bend} Q${down} ${y2} ${down + turn * bend} ${y2} L${x2 - turn * 5} ${y2}`);
  const line = svg("path", { d: path, class: `arrow ${arrow.tie}` }, svg("title", {}, arrow.what));
  const tip = arrow.tie === "conflict" ? 9 : 6;
  const points = meets
    ? [[down, y2 - half], [down - tip / 2, y2 - half - tip], [down + tip / 2, y2 - half - tip]]
    : [[x2, y2], [x2 - turn * tip, y2 - tip / 2], [x2 - turn * tip, y2 + tip / 2]];
  const head = svg("polygon", { points: points.map((p) => p.join(",")).join(" "), class: arrow.tie === "lock" ? "head-order" : `head-${arrow.tie}` });
  over.append(line, head);
  return { arrow, line };
}
