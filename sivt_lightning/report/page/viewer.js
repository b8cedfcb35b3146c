// -- the viewer ------------------------------------------------------------------------------------------------------

let shown = 0; // position in the list
function show(position) {
  shown = Math.min(listed.length - 1, Math.max(0, position));
  while (drawn <= shown) draw();
  const image = listed[shown];
  at("name").textContent = image.path;
  at("badge").textContent = NAMES[verdict(image)];
  at("badge").className = `badge ${verdict(image)}`;
  at("wrong").hidden = image.score === null;
  at("wrong").textContent = marks.has(image.path) ? `${marked(image)}: undo (w)` : "Verdict is wrong (w)";
  at("wrong").setAttribute("aria-pressed", marks.has(image.path));
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
  const over = view === "photo" ? [] : view === "outline" ? outline(image) : [layer(image.heat, view)];
  if (view === "heat" || view === "mask") over[0].style.opacity = at("opacity").value / 100;
  if (at("truth").checked) over.push(...truth(image));
  fill(at("picture"), image, over, view === "heat");
}

function facts(image) {
  if (image.score === null) return image.error;
  const said = [];
  if (verdict(image) === "unknown") {
    said.push("Looks like none of the products that the model knows.");
    if (image.nearest) said.push(`Nearest to it is ${image.nearest}.`);
  } else if (image.product) {
    said.push(`Product: ${image.product}.`);
  }
  said.push(`Score ${short(image.score)}${compared(image)}.`);
  if (verdict(image) !== "unknown" && image.calibrated !== null) {
    const often = image.calibrated < Math.log10(2) ? "more than every second time"
      : rarity(image, "about 1 time in ", "less than 1 time in ");
    said.push(`A good ${image.product} scores this high or higher ${often}.`);
  }
  if (image.small) said.push("None of its regions is as large as was asked for, so it is normal.");
  if (measured(image)) said.push(`${short(100 * image.share)} % of the photo is marked.`);
  if (data.labelled) said.push(image.defect === null ? "Labelled normal." : `Labelled as defect: ${image.defect}.`);
  return said.join(" ");
}

function compared(image) {
  const threshold = scale.threshold(image);
  if (threshold === null || verdict(image) === "unknown") return "";
  return `, ${passed(image) && !image.small ? "not above" : "above"} the threshold ${short(threshold)}`;
}

// Whether its outline is drawn, and what lies within was measured: it was not of a photo called normal at first.
const measured = (image) => !passed(image) && image.verdict !== "normal" && image.share !== null;

function regions(image) {
  const found = measured(image) ? image.regions : [];
  const rows = found.slice(0, 5).map(([left, top, right, bottom, area, peak]) =>
    [`${left}, ${top}`, `${right - left} × ${bottom - top}`, area, short(peak)]);
  if (rows.length) rows.unshift(["region at (pixels)", "size", "area", "peak of the map"]);
  at("regions").replaceChildren(...rows.map((cells, i) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => element(i ? "td" : "th", "", text)));
    return row;
  }));
  if (found.length > 5) at("facts").textContent += ` ${found.length} regions, the highest five:`;
}
