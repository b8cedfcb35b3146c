// -- what a person says of wrong verdicts ----------------------------------------------------------------------------

// "good" or "defect" by path: what a photo shows stays so when the slider moves. Kept for this very page.
const KEPT = `sivt verdicts ${data.key}`;
let refused = false; // by the browser, to keep them
const marks = kept();

function kept() {
  try {
    return new Map(JSON.parse(localStorage.getItem(KEPT) ?? "[]"));
  } catch {
    refused = true;
    return new Map();
  }
}

const marked = (image) => `marked ${marks.get(image.path)}`;

function mark() { // the photo in the viewer, or undo it
  const image = listed[shown];
  if (image.score === null) return;
  if (!marks.delete(image.path)) marks.set(image.path, passed(image) ? "defect" : "good");
  try {
    localStorage.setItem(KEPT, JSON.stringify([...marks]));
  } catch {
    refused = true;
  }
  at("grid").children[shown].replaceWith(card(image, shown));
  countMarks();
  show(shown);
}

function countMarks() {
  at("marked").textContent = marks.size ? `${marks.size} marked.` : "None is marked.";
  at("refused").hidden = !refused;
}

// -- lists as files --------------------------------------------------------------------------------------------------

// As in predictions.csv: what a spreadsheet would take for a formula gets an apostrophe before it.
function csv(rows) {
  const guarded = (cell) => (typeof cell === "string" ? cell.replace(/(^|[;\r\n])(?=["']*[=+\-@\t\r\n＝＋－＠])/g, "$1'") : cell);
  const quoted = (cell) => (/[",;\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return rows.map((row) => row.map((cell) => quoted(guarded(cell ?? ""))).join(",") + "\n").join("");
}

// The images that are listed, as they are called at this limit.
function list() {
  const heading = ["path", "score", "threshold", "is_anomalous", "error", "verdict", "product", "calibrated",
    ...(data.labelled ? ["label"] : [])];
  const rows = listed.map((image) => {
    const failed = image.score === null;
    const result = failed ? ["", "", ""] : [image.score, scale.threshold(image), called(image)];
    const said = failed ? "" : verdict(image);
    const label = data.labelled ? [image.defect === null ? "good" : image.defect] : [];
    return [image.path, ...result, image.error, said, image.product, image.calibrated, ...label];
  });
  return csv([heading, ...rows]);
}

// All images, for `sivt calibrate --good`: what they show by a person's marks, their labels or else their verdicts.
function verdicts() {
  const rows = images.map((image) => {
    const label = shows(image);
    return [data.base + image.path, image.product || (label === "good" ? image.nearest : ""), label];
  });
  return csv([["path", "product", "label"], ...rows]);
}

function shows(image) {
  if (marks.has(image.path)) return marks.get(image.path);
  if (image.score === null) return "";
  if (data.labelled) return image.defect === null ? "good" : "defect";
  return { normal: "good", anomalous: "defect", unknown: "" }[verdict(image)];
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
