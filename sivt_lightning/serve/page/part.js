// -- one part: photo, map and verdict --------------------------------------------------------------------------------

const SPAN = 2; // maps are shown up to this many times the pixel threshold
const LEVEL = 127; // of 255, where that is
const MOST = 10; // regions told

let part = null; // that is shown: as the server tells it, with addresses of `photo` and `map`, null where there is none
let turn = 0; // which was asked for last: what comes later of another is passed over

// A map as the server sends it with a verdict, as grey levels.
async function levels(map, threshold) {
  const bytes = Uint8Array.from(atob(map.png), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = element("canvas", "");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const grey = context.getImageData(0, 0, canvas.width, canvas.height);
  const whole = SPAN * (threshold || 1 / SPAN);
  for (let i = 0; i < grey.data.length; i += 4) {
    const value = grey.data[i] * 257 * map.scale; // browsers give the upper 8 of its 16 bits
    const level = Math.min(255, Math.round((value / whole) * 255));
    grey.data.fill(value > threshold ? Math.max(level, LEVEL + 1) : Math.min(level, LEVEL), i, i + 3);
  }
  context.putImageData(grey, 0, 0);
  return URL.createObjectURL(await new Promise((done) => canvas.toBlob(done)));
}

function show(shown) {
  for (const address of part ? [part.photo, part.map] : []) if (address) URL.revokeObjectURL(address);
  part = shown;
  at("part").hidden = false;
  at("badge").textContent = part.verdict;
  at("badge").className = `badge ${part.verdict}`;
  at("title").textContent = part.name ?? (part.time ? `Part of ${moment(part.time)}` : "Photo");
  at("facts").textContent = facts(part);
  gauge();
  layers();
  regions();
  marking();
  if (kept) list();
}

function facts({ verdict, product, score, threshold, calibrated, note }) {
  const said = [];
  if (verdict === "unknown") said.push("It looks like none of the products that the model knows.");
  else if (product) said.push(`Product: ${product}.`);
  const side = score > threshold ? "above" : "not above";
  said.push(`Score ${short(score)}, ${side} the threshold ${short(threshold)}.`);
  if (verdict !== "unknown" && product && calibrated !== null && calibrated !== undefined) {
    const often = calibrated < Math.log10(2) ? "more than every second time"
      : calibrated > 4 ? "less than 1 time in 10,000" : `about 1 time in ${whole(10 ** calibrated)}`;
    said.push(`A good ${product} scores this high or higher ${often}.`);
  }
  if (note) said.push(note);
  return said.join(" ");
}

function gauge() { // the score on a line that ends at twice the threshold
  const share = part.threshold > 0 ? Math.min(1, part.score / part.threshold / 2) : Number(part.score > 0);
  const rail = { x: 0, y: 8, height: 8, rx: 4 };
  at("gauge").replaceChildren(
    shape("rect", { ...rail, width: "100%", class: "rail" }),
    shape("rect", { ...rail, width: `${100 * share}%`, class: KINDS[part.verdict] }),
    shape("line", { x1: "50%", x2: "50%", y1: 2, y2: 22, class: "limit" }),
  );
}

const view = () => document.querySelector("input[name=view]:checked").value;

function layers() {
  const { photo, map } = part, over = [], grey = view() === "heat" ? "grey" : "";
  const image = (source, className, alternative) => {
    const made = element("img", className);
    made.alt = alternative;
    made.src = source;
    return made;
  };
  const shapes = (of) => at("picture").style.setProperty("--ratio", of.naturalWidth / of.naturalHeight);
  at("unseen").textContent = photo || map ? "" : part.unseen ?? "Loading the photo.";
  if (part.width) at("picture").style.setProperty("--ratio", part.width / part.height);
  const plain = view() === "photo" || (view() === "outline" && part.verdict === "normal"); // as report.html has it
  if (map && !(plain && photo)) {
    over.push(image(map, view() === "outline" && photo ? "outline" : "heat", photo ? "" : "Map of the anomaly"));
  }
  if (photo) {
    const made = image(photo, grey, part.name ?? "The photo");
    made.addEventListener("load", () => shapes(made));
    made.addEventListener("error", () => { // a TIFF, for one
      if (part.photo !== photo) return;
      part.photo = null;
      layers();
      at("unseen").textContent = "This browser cannot show photos of this kind: here is the map alone.";
    });
    over.unshift(made);
  } else if (over.length && !part.width) {
    over[0].addEventListener("load", () => shapes(over[0]));
  }
  if (at("boxes").checked && photo) over.push(...boxes(first(part.regions)));
  at("picture").replaceChildren(...over);
  at("opacity").disabled = view() !== "heat";
  fade();
}

function fade() {
  const heat = at("picture").querySelector(".grey ~ .heat"); // over a photo, not in its place
  if (heat) heat.style.opacity = at("opacity").value / 100;
}

const first = (regions) => (regions ?? []).slice(0, MOST);

function boxes(found) {
  if (!part.width) return [];
  return found.map(({ box: [left, top, right, bottom] }, i) => {
    const drawn = element("span", "box");
    Object.assign(drawn.style, {
      left: `${(100 * left) / part.width}%`, width: `${(100 * (right - left)) / part.width}%`,
      top: `${(100 * top) / part.height}%`, height: `${(100 * (bottom - top)) / part.height}%`,
    });
    drawn.append(element("b", "", i + 1));
    return drawn;
  });
}

function regions() {
  const found = first(part.regions);
  at("boxed").hidden = !found.length;
  const rows = found.map(({ box: [left, top, right, bottom], area, peak }, i) =>
    [i + 1, `${left}, ${top}`, `${right - left} × ${bottom - top}`, area, short(peak)]);
  table(at("regions"), ["region", "at (pixels)", "size", "area", "peak of the map"], rows);
  const left = (part.regions ?? []).length - found.length;
  if (left > 0) at("facts").textContent += ` ${left} more regions are not listed.`;
}

function table(into, heading, rows) {
  const row = (cells, kind) => {
    const made = element("tr", "");
    made.append(...cells.map((text) => element(kind, "", text)));
    return made;
  };
  into.replaceChildren(...(rows.length ? [row(heading, "th"), ...rows.map((cells) => row(cells, "td"))] : []));
}

function moment(time) { // in the place of whoever looks
  const at = new Date(time), today = new Date().toDateString() === at.toDateString();
  const two = (number) => String(number).padStart(2, "0");
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return today ? clock : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}
