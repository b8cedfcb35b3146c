// -- histogram and slider --------------------------------------------------------------------------------------------

const INSET = 8; // half a slider's thumb, so that the histogram's line stands above it
const LETTER = 6.5; // width of one below the histogram, about
const part = (x) => Math.min(1, Math.max(0, (x - scale.low) / (scale.high - scale.low))); // of the axis

// What is told apart in a bar, from below: labels where they are known, else verdicts.
const KINDS = data.labelled
  ? [["calm", "labelled normal", (image) => image.defect === null], ["alarm", "labelled defective", () => true]]
  : [["calm", "normal", passed], ["strange", "unknown", (image) => verdict(image) === "unknown"],
    ["alarm", "anomalous", () => true]];

function histogram() {
  const box = at("histogram"), wide = box.clientWidth, base = 118, tall = 104, bins = 60;
  const across = (x) => INSET + part(x) * (wide - 2 * INSET);
  const counts = Array.from({ length: bins }, () => KINDS.map(() => 0));
  for (const image of scored.filter(ofProduct)) {
    const bin = Math.min(bins - 1, Math.floor(part(scale.of(image)) * bins));
    counts[bin][KINDS.findIndex(([, , of]) => of(image))] += 1;
  }
  const most = Math.max(1, ...counts.map((bar) => bar.reduce((a, b) => a + b)));
  const step = (wide - 2 * INSET) / bins, parts = [];
  counts.forEach((bar, bin) => {
    let top = base;
    bar.forEach((n, kind) => {
      const height = n ? Math.max(1.5, (n / most) * tall) : 0;
      top -= height;
      const where = { x: INSET + bin * step + 0.5, y: top, width: Math.max(1, step - 1), height };
      if (n) parts.push(shape("rect", { ...where, class: KINDS[kind][0] }));
    });
  });
  let last = -Infinity;
  for (const [place, text] of scale.ticks) {
    if (place < scale.low || place > scale.high) continue;
    const half = (LETTER * text.length) / 2;
    const x = Math.min(wide - half, Math.max(half, across(place)));
    if (x - half < last + 8) continue;
    parts.push(shape("text", { x, y: 134, "text-anchor": "middle" }, text));
    last = x + half;
  }
  const x = across(scale.place(limit));
  parts.push(shape("line", { x1: x, x2: x, y1: 4, y2: base, class: "limit" }));
  box.replaceChildren(...parts);
}

function setLimit(x, from) {
  if (!scale.possible(x)) return;
  limit = x;
  if (from !== "slider") at("slider").value = Math.round(1000 * (scale.place(x) - scale.from) / (scale.high - scale.from));
  if (from !== "exact") at("exact").value = scale.number(x);
  at("slider").setAttribute("aria-valuetext", scale.said(x));
  at("reset").disabled = x === scale.start;
  update();
}
const slid = () => scale.limit(scale.from + (at("slider").value / 1000) * (scale.high - scale.from));
