// What is known of one step, as a list beside the chart.

function element(name, classes, ...children) {
  const node = document.createElement(name);
  if (classes) node.className = classes;
  node.append(...children);
  return node;
}

function list(items) {
  return element("ul", "", ...items.map((item) => element("li", "", ...[].concat(item))));
}

function part(title, ...children) {
  return element("section", "", element("h4", "", title), ...children);
}

function showStep(panel, run, i) {
  const step = run.steps[i];
  const before = i > 0 ? run.steps[i - 1].pages : run.before;
  const letter = letterOf(run, i);
  const title = element("h3", "", `Step ${step.index}, ${step.lane} `);
  if (letter) title.append(element("b", "letter", letter));
  const parts = [title, element("p", "", step.text), marks(run, i, letter)];
  parts.push(part("Step", list(nameOf(run, step))));
  parts.push(part("Could have run", list(step.enabled.map(([actor, name], place) =>
    place === step.choice ? [element("b", "", `${actor} ${name}`), " (this one)"] : `${actor} ${name}`))));
  if (step.touches.length) parts.push(part("Touches", list(step.touches)));
  run.pfns.forEach((pfn, place) => {
    if (run.pfns.length < 3 || step.changed.includes(pfn) || step.accesses.some((access) => access.number === pfn)) {
      parts.push(part(`Page ${pfn}, before and after`, pageTable(before[place], step.pages[place])));
    }
  });
  const clock = Object.entries(step.clock).map(([actor, count]) => `${actor} ${count}`).join(", ");
  parts.push(part("Vector clock", element("p", "", clock)));
  panel.replaceChildren(...parts);
}

function marks(run, i, letter) {
  const step = run.steps[i], found = [];
  if (letter) found.push(`One of the two accesses in conflict${run.fails ? "" : "; here they come the other way round"}.`);
  if (run.fails && run.in_race && i === run.steps.length - 1) found.push(`Here it fails: ${run.violations[0].split("\n")[0]}`);
  if (step.taken) found.push("An interrupt came first: the step had no effect, and is asked for again.");
  if (step.nested) found.push("Inside an interrupt.");
  if (step.disabled && !step.nested) found.push("Interrupts are disabled.");
  if (step.reason) found.push(`Why another lane: ${step.reason}.`);
  if (!step.cone) found.push("The failure does not depend on it.");
  return found.length ? list(found) : "";
}

function nameOf(run, step) {
  const named = [`${step.actor} ${step.label}`, `no. ${step.nth} of this actor and label; choice ${step.choice}`];
  if (step.said) named.push(`was told: ${step.said}`);
  if (step.cause !== null) {
    const cause = run.steps[step.cause];
    named.push(`made possible by step ${cause.index}, ${cause.actor} ${cause.label}`);
  }
  named.push(element("span", "muted", `digest ${step.digest}`));
  return named;
}

function pageTable(before, after) {
  const rows = [
    ["state", (page) => page.state], ["C, R", (page) => `${Number(page.changed)}, ${Number(page.referenced)}`],
    ["flags", (page) => page.flags.join(" ") || "none"], ["count", (page) => page.count], ["mapcount", (page) => page.mapcount],
    ["holds", (page) => page.owner], ["use", (page) => `#${page.incarnation}`],
  ];
  return element("table", "", ...rows.map(([name, read]) => {
    const [old, now] = [String(read(before)), String(read(after))];
    const changed = old !== now;
    return element("tr", "", element("th", "", name), element("td", "", old), element("td", changed ? "new" : "muted", changed ? `→ ${now}` : "same"));
  }));
}
