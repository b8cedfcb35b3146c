"use strict";
// What the page knows of an image: path, score (null without a result), threshold, error, share, regions, photo, heat,
// original, and of a test image truth (picture of its mask) and defect (null where it is normal).
const data = JSON.parse(document.getElementById("data").textContent);
const images = data.images;
const at = (id) => document.getElementById(id);
const CHUNK = 100; // cards drawn at a time
const INSET = 8; // half a slider's thumb, so that the histogram's line stands above it

// -- scores and the threshold ----------------------------------------------------------------------------------------

// One threshold for all images: the scale is the score. Several: it is the score over the image's own threshold.
const given = new Set(images.map((image) => image.threshold));
const single = given.size <= 1;
const start = single ? (images.length ? images[0].threshold : null) : 1;
const value = (image) => (single ? image.score : image.score / image.threshold);
const limit = (image) => (single ? threshold : threshold * image.threshold);
const scored = images.filter((image) => image.score !== null);
const positive = scored.map(value).filter((x) => x > 0 && Number.isFinite(x));
const low = Math.log(Math.min(...ends(positive), start || Infinity)) - 0.05;
const high = Math.log(Math.max(...ends(positive), start || 0)) + 0.05;
let threshold = start === null ? Math.exp(high) : start;

function ends(values) { // of thousands: too many to spread into Math.min
  return values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : [1];
}
const place = (x) => Math.min(1, Math.max(0, (Math.log(Math.max(x, 1e-300)) - low) / (high - low)));
const short = (x) => (x === null ? "none" : Number(x.toPrecision(3)).toString());

function verdict(image) {
  if (image.score === null) return "failed";
  return image.score > limit(image) ? "anomalous" : "normal"; // as in predictions.csv
}
const NAMES = { anomalous: "anomalous", normal: "normal", failed: "no result" };
const CHOICES = {
  all: ["all images", () => true],
  anomalous: ["anomalous", (image) => verdict(image) === "anomalous"],
  normal: ["normal", (image) => verdict(image) === "normal"],
};
if (scored.length < images.length) CHOICES.failed = ["without a result", (image) => image.score === null];
if (data.labelled) {
  CHOICES.missed = ["missed defects", (image) => image.defect !== null && verdict(image) === "normal"];
  CHOICES.false = ["false alarms", (image) => image.defect === null && verdict(image) === "anomalous"];
}

// -- the list --------------------------------------------------------------------------------------------------------

const folderOf = (path) => path.slice(0, path.lastIndexOf("/") + 1);
const ORDERS = {
  high: (a, b) => (b.score ?? -1) - (a.score ?? -1),
  low: (a, b) => (a.score ?? Infinity) - (b.score ?? Infinity),
  name: (a, b) => (a.path < b.path ? -1 : 1),
};
let listed = []; // what the choices leave, in order
let drawn = 0; // how many of them have a card

function update() {
  const fits = CHOICES[at("verdict").value][1];
  const folder = at("folder").value;
  const part = at("search").value.toLowerCase();
  listed = images.filter((image) =>
    fits(image) && image.path.startsWith(folder) && image.path.toLowerCase().includes(part));
  listed.sort(ORDERS[at("order").value]);
  at("listed").textContent = `${listed.length} of ${images.length} listed`;
  at("grid").replaceChildren();
  drawn = 0;
  draw();
  count();
  histogram();
}

function draw() {
  const cards = listed.slice(drawn, drawn + CHUNK).map((image, i) => card(image, drawn + i));
  drawn += cards.length;
  at("grid").append(...cards);
}

function element(kind, className, text) {
  const made = document.createElement(kind);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function layer(source, className, alternative) {
  const made = element("img", className);
  made.loading = "lazy";
  made.decoding = "async";
  made.alt = alternative || "";
  made.src = source;
  return made;
}

// A photo and pictures to lay over it, which are stretched to its shape.
function fill(picture, image, layers, grey) {
  const photo = layer(image.photo, grey ? "grey" : "", image.path);
  photo.addEventListener("load", () => picture.style.setProperty("--ratio", photo.naturalWidth / photo.naturalHeight));
  picture.replaceChildren(photo, ...layers);
}

function card(image, position) {
  const made = element("button", `card ${verdict(image)}`);
  made.type = "button";
  made.dataset.position = position;
  const frame = element("div", "frame");
  if (image.photo) {
    const picture = element("div", "picture");
    fill(picture, image, [layer(image.heat, "outline"), ...truth(image)]);
    frame.append(picture);
  } else {
    frame.append(element("div", "error", image.error));
  }
  const line = element("div", "line");
  line.append(badge(image), element("span", "", image.score === null ? "" : short(image.score)));
  made.append(frame, line, element("div", "name", image.path));
  return made;
}

function badge(image) {
  return element("span", `badge ${verdict(image)}`, NAMES[verdict(image)]);
}

function truth(image) {
  return image.truth ? [layer(image.truth, "truth")] : [];
}

function count() {
  const found = { anomalous: 0, normal: 0, failed: 0 };
  for (const image of images) found[verdict(image)] += 1;
  let text = `${images.length} images: ${found.anomalous} anomalous, ${found.normal} normal`;
  if (found.failed) text += `, ${found.failed} without a result`;
  if (data.labelled) {
    const share = (of) => {
      const all = scored.filter(of);
      const called = all.filter((image) => verdict(image) === "anomalous").length;
      return all.length ? `${called} of ${all.length}` : "none";
    };
    text += `. Defects found: ${share((image) => image.defect !== null)}; false alarms: `;
    text += share((image) => image.defect === null);
  }
  at("counts").textContent = `${text}.`;
}

// -- histogram and slider --------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
function shape(kind, attributes, text) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, set] of Object.entries(attributes)) made.setAttribute(name, set);
  if (text !== undefined) made.textContent = text;
  return made;
}

function histogram() {
  const box = at("histogram"), wide = box.clientWidth, base = 118, tall = 104, bins = 60;
  const across = (x) => INSET + place(x) * (wide - 2 * INSET);
  const counts = Array.from({ length: bins }, () => [0, 0]);
  for (const image of scored) {
    const bin = Math.min(bins - 1, Math.floor(place(value(image)) * bins));
    counts[bin][Number(data.labelled ? image.defect !== null : verdict(image) === "anomalous")] += 1;
  }
  const most = Math.max(1, ...counts.map(([a, b]) => a + b));
  const step = (wide - 2 * INSET) / bins, parts = [];
  counts.forEach((pair, bin) => {
    let top = base;
    pair.forEach((n, kind) => {
      const height = n ? Math.max(1.5, (n / most) * tall) : 0;
      top -= height;
      const where = { x: INSET + bin * step + 0.5, y: top, width: Math.max(1, step - 1), height };
      if (n) parts.push(shape("rect", { ...where, class: kind ? "alarm" : "calm" }));
    });
  });
  let last = -Infinity;
  for (let power = Math.floor(low / Math.LN10); power <= high / Math.LN10; power += 1) {
    for (const digit of [1, 2, 5]) {
      const tick = Number(`${digit}e${power}`), x = across(tick);
      if (Math.log(tick) < low || Math.log(tick) > high || x - last < 44) continue;
      parts.push(shape("text", { x, y: 134, "text-anchor": "middle" }, short(tick)));
      last = x;
    }
  }
  const x = across(threshold);
  parts.push(shape("line", { x1: x, x2: x, y1: 4, y2: base, class: "limit" }));
  box.replaceChildren(...parts);
}

function setThreshold(x, from) {
  if (!(x >= 0)) return;
  threshold = x;
  if (from !== "slider") at("slider").value = Math.round(place(x) * 1000);
  if (from !== "exact") at("exact").value = Number(x.toPrecision(6));
  at("slider").setAttribute("aria-valuetext", short(x));
  at("reset").disabled = x === start;
  update();
}

// -- the viewer ------------------------------------------------------------------------------------------------------

let shown = 0; // position in the list
function show(position) {
  shown = Math.min(listed.length - 1, Math.max(0, position));
  while (drawn <= shown) draw();
  const image = listed[shown];
  at("name").textContent = image.path;
  at("badge").textContent = NAMES[verdict(image)];
  at("badge").className = `badge ${verdict(image)}`;
  at("original").hidden = !image.original;
  if (image.original) at("original").href = image.original;
  at("previous").disabled = shown === 0;
  at("next").disabled = shown === listed.length - 1;
  at("facts").textContent = facts(image);
  regions(image);
  layers();
  if (!at("viewer").open) at("viewer").showModal();
}

function layers() {
  const image = listed[shown], view = document.querySelector("input[name=view]:checked").value;
  if (!image.photo) {
    at("picture").replaceChildren();
    return;
  }
  const over = view === "photo" ? [] : [layer(image.heat, view)];
  if (view === "heat" || view === "mask") over[0].style.opacity = at("opacity").value / 100;
  if (at("truth").checked) over.push(...truth(image));
  fill(at("picture"), image, over, view === "heat");
}

function facts(image) {
  if (image.score === null) return image.error;
  const sign = verdict(image) === "anomalous" ? "above" : "not above";
  const said = [`Score ${short(image.score)}, ${sign} the threshold ${short(limit(image))}.`];
  if (image.share !== null) said.push(`${short(100 * image.share)} % of the photo is marked.`);
  if (data.labelled) said.push(image.defect === null ? "Labelled normal." : `Labelled as defect: ${image.defect}.`);
  return said.join(" ");
}

function regions(image) {
  const rows = image.regions.slice(0, 5).map(([left, top, right, bottom, area, peak]) =>
    [`${left}, ${top}`, `${right - left} × ${bottom - top}`, area, short(peak)]);
  if (rows.length) rows.unshift(["region at (pixels)", "size", "area", "peak of the map"]);
  at("regions").replaceChildren(...rows.map((cells, i) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => element(i ? "td" : "th", "", text)));
    return row;
  }));
  if (image.regions.length > 5) at("facts").textContent += ` ${image.regions.length} regions, the highest five:`;
}

// -- the list as a file ----------------------------------------------------------------------------------------------

function csv() {
  const heading = ["path", "score", "threshold", "is_anomalous", "error", ...(data.labelled ? ["label"] : [])];
  const rows = listed.map((image) => {
    const known = image.score !== null;
    const cells = [image.path, known ? image.score : "", limit(image), known ? verdict(image) === "anomalous" : ""];
    return [...cells, image.error, ...(data.labelled ? [image.defect === null ? "good" : image.defect] : [])];
  });
  // As in predictions.csv: what a spreadsheet would take for a formula gets an apostrophe before it.
  const guarded = (cell) => (typeof cell === "string" ? cell.replace(/(^|[;\r\n])(?=["']*[=+\-@\t\r\n＝＋－＠])/g, "$1'") : cell);
  const quoted = (cell) => (/[",;\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return [heading, ...rows].map((row) => row.map(guarded).map(quoted).join(",") + "\n").join("");
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "list.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

// -- setting up ------------------------------------------------------------------------------------------------------

// The heat pictures are grey: colours, mask and outline are made of them here. Up to data.level of 255 is normal.
function filters() {
  const steps = Array.from({ length: 256 }, (_, i) => Number(i > data.level)).join(" ");
  const channels = [0, 1, 2].map((channel) => data.colours.map((colour) => colour[channel] / 255).join(" "));
  const filter = (id, ...parts) => {
    const made = shape("filter", { id, x: 0, y: 0, width: 1, height: 1, "color-interpolation-filters": "sRGB" });
    made.append(...parts);
    return made;
  };
  const nested = (kind, attributes, ...parts) => {
    const made = shape(kind, attributes);
    made.append(...parts);
    return made;
  };
  const alpha = (table) => [
    shape("feColorMatrix", { values: "0 0 0 0 0  0 0 0 0 0  0 0 0 0 0  1 0 0 0 0" }),
    nested("feComponentTransfer", { result: "inside" }, shape("feFuncA", { type: "discrete", tableValues: table })),
  ];
  const line = (colour, table) => [
    ...alpha(table),
    shape("feMorphology", { operator: "dilate", radius: 2, in: "inside", result: "wide" }),
    shape("feMorphology", { operator: "dilate", radius: 3, in: "inside", result: "wider" }),
    shape("feComposite", { operator: "out", in: "wider", in2: "inside", result: "halo" }),
    shape("feComposite", { operator: "out", in: "wide", in2: "inside", result: "ring" }),
    shape("feFlood", { "flood-color": colour }),
    shape("feComposite", { operator: "in", in2: "ring", result: "coloured" }),
    nested("feMerge", {}, shape("feMergeNode", { in: "halo" }), shape("feMergeNode", { in: "coloured" })),
  ];
  const functions = channels.map((tableValues, i) => shape(`feFunc${"RGB"[i]}`, { type: "table", tableValues }));
  at("filters").append(
    filter("heat", nested("feComponentTransfer", {}, ...functions)),
    filter("mask", ...alpha(steps), shape("feFlood", { "flood-color": "#0ff" }),
      shape("feComposite", { operator: "in", in2: "inside" })),
    filter("outline", ...line("#0ff", steps)),
    filter("contour", ...line("#fff", "0 1")),
  );
}

function choose(select, pairs) {
  select.append(...pairs.map(([key, text]) => {
    const option = element("option", "", text);
    option.value = key;
    return option;
  }));
}

function setUp() {
  filters();
  choose(at("verdict"), Object.entries(CHOICES).map(([key, [text]]) => [key, text]));
  const folders = new Set();
  for (const { path } of images) { // every folder above an image, too
    for (let end = path.indexOf("/"); end >= 0; end = path.indexOf("/", end + 1)) folders.add(path.slice(0, end + 1));
  }
  choose(at("folder"), [["", "all folders"], ...[...folders].sort().map((folder) => [folder, folder])]);
  at("folder").parentElement.hidden = folders.size === 0;
  at("truths").hidden = !images.some((image) => image.truth);
  at("unit").textContent = single ? "Threshold" : "Threshold, as a multiple of each image's own";
  at("reset").textContent = start === null ? "No threshold was found in training" : `Back to ${short(start)}`;
  const words = data.labelled ? ["labelled normal", "labelled defective"] : ["normal", "anomalous"];
  at("key").append(element("i", "calm"), words[0], element("i", "alarm"), words[1]);
  const stops = data.colours.map((colour) => `rgb(${colour.join(",")})`).join(",");
  at("colours").style.background = `linear-gradient(to right, ${stops})`;

  for (const id of ["verdict", "folder", "order"]) at(id).addEventListener("change", update);
  at("search").addEventListener("input", update);
  at("slider").addEventListener("input", () =>
    setThreshold(Math.exp(low + (at("slider").value / 1000) * (high - low)), "slider"));
  at("exact").addEventListener("input", () => setThreshold(at("exact").valueAsNumber, "exact"));
  at("reset").addEventListener("click", () => setThreshold(start, "reset"));
  at("export").addEventListener("click", save);
  at("grid").addEventListener("click", (event) => {
    const made = event.target.closest(".card");
    if (made) show(Number(made.dataset.position));
  });
  at("grid").addEventListener("keydown", (event) => {
    const made = event.target.closest(".card");
    const to = made && { ArrowLeft: made.previousElementSibling, ArrowRight: made.nextElementSibling }[event.key];
    if (to) to.focus();
  });
  at("previous").addEventListener("click", () => show(shown - 1));
  at("next").addEventListener("click", () => show(shown + 1));
  at("close").addEventListener("click", () => at("viewer").close());
  at("viewer").addEventListener("close", () => at("grid").children[shown]?.focus());
  at("viewer").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && !event.target.matches("input")) show(shown + step); // an input's arrows are its own
  });
  for (const id of ["views", "truth", "opacity"]) at(id).addEventListener("input", layers);
  new IntersectionObserver(([seen]) => seen.isIntersecting && draw(), { rootMargin: "600px" }).observe(at("more"));
  new ResizeObserver(histogram).observe(at("histogram"));
  setThreshold(threshold, "start");
}
setUp();
