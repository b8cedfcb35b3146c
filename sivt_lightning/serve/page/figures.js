// -- counts, false alarms, drift and model ---------------------------------------------------------------------------

const HOURS = 48;
const FEWEST = { parts: 20, marks: 5 }; // of which a share of false alarms is told

function counts() {
  const now = Date.now(), hour = 3600e3;
  const hours = Array.from({ length: HOURS }, (_, i) => new Date(now - (HOURS - 1 - i) * hour).toISOString().slice(0, 13));
  const products = new Map();
  for (const { hour: at, product, verdict, parts } of kept.counts) {
    const name = product ?? "", place = hours.indexOf(at.slice(0, 13));
    if (place < 0) continue;
    if (!products.has(name)) products.set(name, hours.map(() => ({ normal: 0, unknown: 0, anomalous: 0 })));
    products.get(name)[place][verdict] += parts;
  }
  const blocks = [...products].sort(([a], [b]) => (a === "") - (b === "") || (a < b ? -1 : 1)).map(([name, bars]) => bar(name, hours, bars));
  at("hourly").replaceChildren(...(blocks.length ? [...blocks, axis()] : [element("p", "faint", "None in the last two days.")]));
}

const sum = (counts) => counts.normal + counts.unknown + counts.anomalous;
const told = (counts) => {
  const kinds = ["anomalous", "unknown"].filter((kind) => counts[kind]).map((kind) => `${counts[kind]} ${kind}`);
  return [`${sum(counts)} ${sum(counts) === 1 ? "part" : "parts"}`, ...kinds].join(", ");
};

function bar(name, hours, bars) {
  const most = Math.max(...bars.map(sum)), all = { normal: 0, unknown: 0, anomalous: 0 };
  for (const one of bars) for (const kind of Object.keys(all)) all[kind] += one[kind];
  const title = name || (all.normal || all.anomalous ? "all parts" : "no product");
  const drawing = shape("svg", { viewBox: `0 0 ${HOURS} 100`, preserveAspectRatio: "none", class: "hours", role: "img" });
  drawing.setAttribute("aria-label", `${title}: ${told(all)} in ${HOURS} hours, at most ${most} in one.`);
  bars.forEach((one, i) => {
    const group = shape("g", {});
    let base = 100;
    for (const [kind, className] of Object.entries(KINDS)) {
      const height = (100 * one[kind]) / most;
      base -= height;
      if (height) group.append(shape("rect", { x: i + 0.1, width: 0.8, y: base, height, class: className }));
    }
    if (base < 100) group.append(shape("title", {}, `${clock(hours[i])}: ${told(one)}`));
    drawing.append(group);
  });
  const made = element("div", "product"), line = element("div", "bar");
  line.append(element("b", "", title), element("span", "faint", `${told(all)}; at most ${most} an hour`));
  made.append(line, drawing);
  return made;
}

const clock = (hour) => moment(`${hour}:00:00Z`).replace(/:00$/, "");

function axis() {
  const made = element("div", "ticks");
  made.append(element("span", "", "2 days ago"), element("span", "", "a day ago"), element("span", "", "now"));
  return made;
}

const roughly = (share) => `${Number((100 * share).toPrecision(2))} %`;

// Bounds of a share of which `count` of `total` were seen, 19 times of 20 (E. B. Wilson, 1927).
function bounds(count, total) {
  const z = 1.96, share = count / total, middle = share + z ** 2 / (2 * total);
  const half = z * Math.sqrt((share * (1 - share)) / total + z ** 2 / (4 * total ** 2));
  return [middle - half, middle + half].map((edge) => Math.min(1, Math.max(0, edge / (1 + z ** 2 / total))));
}

// What marks tell of good parts that were called anomalous. Those called so and not marked may be any: the bounds take
// them for defects, then for good parts.
function observed(parts) {
  const known = parts.filter(({ verdict }) => verdict !== "unknown");
  const called = known.filter(({ verdict }) => verdict === "anomalous"), marked = called.filter(({ mark }) => mark);
  const good = marked.filter(({ mark }) => mark.says === "good").length;
  const missed = known.filter(({ verdict, mark }) => verdict === "normal" && mark?.says === "defect").length;
  const passed = known.length - called.length - missed; // good ones
  const open = called.length - marked.length;
  const enough = known.length >= FEWEST.parts
    && (!called.length || (marked.length >= Math.min(FEWEST.marks, called.length) && open <= marked.length));
  const likely = marked.length ? (called.length * good) / marked.length : 0;
  return {
    known: known.length, called: called.length, marked: marked.length, enough,
    share: likely / (passed + likely),
    low: bounds(good, passed + good)[0], high: bounds(good + open, passed + good + open)[1],
  };
}

function alarms() {
  const { promised } = kept, seen = observed(kept.parts), said = [];
  said.push(promised === null || promised === undefined ? "None are promised: verdicts go by a score."
    : `Promised: at most ${percent(promised)} of good parts are called anomalous.`);
  const rests = seen.called ? `${seen.marked} marked of ${seen.called} called anomalous among the last ${seen.known}`
    : `none called anomalous among the last ${seen.known}`;
  if (!seen.known) said.push("No part has been judged yet.");
  else said.push(seen.enough && seen.share <= 1
    ? `Observed: ${roughly(seen.share)}, between ${roughly(seen.low)} and ${roughly(seen.high)}. This rests on ${rests}.`
    : `Too little to tell what is observed: ${rests}.`);
  at("alarms").replaceChildren(...said.map((text) => element("p", "", text)));
}

function drift(said) {
  at("drift").textContent = `${said.verdict[0].toUpperCase()}${said.verdict.slice(1)}. ${said.sentence}`;
  const rows = said.products.map(({ product, verdict, parts }) => [product ?? "all parts", verdict, parts]);
  if (said.unknown) rows.push(["unknown", "", said.unknown]);
  table(at("drifts"), ["product", "scores of normal parts", "parts"], rows);
}

function model(said) {
  const version = said.version ? `, sivt_lightning ${said.version}` : "";
  at("model").textContent = `${said.model}${version}; images of ${said.image_size} pixels.`;
  const rows = Object.entries(said.thresholds).map(([name, { score, pixel }]) => [name || "all parts", short(score), short(pixel)]);
  table(at("thresholds"), ["product", "threshold of the score", "of a pixel"], rows);
}
