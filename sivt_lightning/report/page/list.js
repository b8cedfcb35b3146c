// -- the list --------------------------------------------------------------------------------------------------------

const CHUNK = 100; // cards drawn at a time
const ORDERS = { // what has no result comes last
  high: (a, b) => (b.score === null ? -1 : scale.rank(b)) - (a.score === null ? -1 : scale.rank(a)),
  low: (a, b) => (a.score === null) - (b.score === null) || scale.rank(a) - scale.rank(b),
  name: (a, b) => (a.path < b.path ? -1 : 1),
};
let listed = []; // what the choices leave, in order
let drawn = 0; // how many of them have a card

const ofProduct = (image) => !at("product").value || image.product === at("product").value;

function update() {
  const fits = CHOICES[at("verdict").value][1];
  const folder = at("folder").value;
  const part = at("search").value.toLowerCase();
  listed = images.filter((image) => fits(image) && ofProduct(image) && image.path.startsWith(folder) &&
    image.path.toLowerCase().includes(part));
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
    fill(picture, image, [...outline(image), ...truth(image)]);
    frame.append(picture);
  } else {
    frame.append(element("div", "error", image.error));
  }
  const line = element("div", "line");
  line.append(badge(image), element("span", "", worth(image)));
  made.append(frame, line);
  if (marks.has(image.path)) made.append(element("div", "mark", marked(image)));
  made.append(element("div", "name", image.path));
  return made;
}

// A score as it compares with those of the other cards.
function worth(image) {
  if (image.score === null) return "";
  if (!promised) return short(image.score);
  return verdict(image) === "unknown" ? "" : rarity(image, "1 in ", "< 1 in ");
}

function badge(image) {
  return element("span", `badge ${verdict(image)}`, NAMES[verdict(image)]);
}

// Around what is anomalous: nothing of a photo that is normal.
function outline(image) {
  return passed(image) ? [] : [layer(image.heat, "outline")];
}

function truth(image) {
  return image.truth ? [layer(image.truth, "truth")] : [];
}

function count() {
  const found = { anomalous: 0, normal: 0, unknown: 0, failed: 0 };
  for (const image of images) found[verdict(image)] += 1;
  let text = `${images.length} images: ${found.anomalous} anomalous, ${found.normal} normal`;
  if (found.unknown) text += `, ${found.unknown} unknown`;
  if (found.failed) text += `, ${found.failed} without a result`;
  if (data.labelled) {
    const share = (of) => {
      const all = scored.filter(of);
      return all.length ? `${all.filter(called).length} of ${all.length}` : "none";
    };
    text += `. Defects found: ${share((image) => image.defect !== null)}; false alarms: `;
    text += share((image) => image.defect === null);
    if (found.unknown) text += " (unknown ones included)";
  }
  at("counts").textContent = `${text}.`;
}
