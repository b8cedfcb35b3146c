// What the page knows of an image: see `Shown` in page.py.
const data = JSON.parse(document.getElementById("data").textContent);
const images = data.images;

// -- scores and the limit that a person moves ------------------------------------------------------------------------

const scored = images.filter((image) => image.score !== null);

function ends(values) { // of thousands: too many to spread into Math.min
  return values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : [1];
}

// A scale's places are numbers on the histogram's axis, its limits what a person sets: from a place above the limit's on
// an image is anomalous. `start` is the limit of the files beside the page, null for none.

const RAREST = 4; // beyond 1 in 10,000 a calibrated score is only "rarer"
function shareScale() { // the limit is the share of good parts that may be called anomalous, a place log10 of 1 over it
  const [, highest = 1] = ends(scored.map((image) => image.calibrated));
  const high = Math.min(6, Math.max(RAREST, highest)) + 0.1;
  const place = (share) => -Math.log10(share);
  return {
    start: data.share, low: 0, from: Math.log10(2), high, place,
    limit: (x) => 10 ** -x,
    of: (image) => image.calibrated,
    above: (image) => image.calibrated > place(limit),
    threshold: (image) => (limit === data.share ? image.threshold : null), // the model knows it, the page does not
    possible: (share) => share > 0 && share < 1,
    number: (share) => Number((100 * share).toPrecision(3)),
    entered: (number) => number / 100,
    said: percent,
    ticks: [[1, "1 in 10"], [2, "1 in 100"], [3, "1 in 1,000"], [RAREST, "1 in 10,000"], [high, "rarer"]],
    unit: "False alarms promised, in %",
    axis: "How many good parts of its product score as high as a photo, or higher",
    orders: ["most anomalous first", "least anomalous first"],
    rank: (image) => (image.verdict === "unknown" ? 1e9 : 0) + image.calibrated, // unknown ones before all others
  };
}

function scoreScale() { // one threshold for all: the limit is the score; several: a multiple of each image's own
  const single = new Set(scored.map((image) => image.threshold)).size <= 1;
  const start = single ? (scored.length ? scored[0].threshold : null) : 1;
  const value = (image) => (single ? image.score : image.score / image.threshold);
  const threshold = (image) => (single ? limit : limit * image.threshold);
  const positive = scored.map(value).filter((x) => x > 0 && Number.isFinite(x));
  const low = Math.log(Math.min(...ends(positive), start || Infinity)) - 0.05;
  const high = Math.log(Math.max(...ends(positive), start || 0)) + 0.05;
  const place = (x) => Math.log(Math.max(x, 1e-300));
  const ticks = [];
  for (let power = Math.floor(low / Math.LN10); power <= high / Math.LN10; power += 1) {
    for (const digit of [1, 2, 5]) ticks.push([Math.log(Number(`${digit}e${power}`)), short(Number(`${digit}e${power}`))]);
  }
  return {
    start, low, from: low, high, place, threshold, ticks,
    limit: (x) => Math.exp(x),
    of: (image) => place(value(image)),
    above: (image) => image.score > threshold(image), // as in predictions.csv
    possible: (x) => x >= 0,
    number: (x) => Number(x.toPrecision(6)),
    entered: (number) => number,
    said: short,
    unit: single ? "Threshold" : "Threshold, as a multiple of each image's own",
    axis: single ? "Score" : "Score, as a multiple of each image's own threshold",
    orders: ["highest score", "lowest score"],
    rank: (image) => (image.verdict === "unknown" ? 1e300 : 0) + image.score,
  };
}

const promised = data.share !== null && scored.every((image) => image.calibrated !== null);
const scale = promised ? shareScale() : scoreScale();
let limit = scale.start ?? scale.limit(scale.high);

// -- verdicts --------------------------------------------------------------------------------------------------------

function verdict(image) {
  if (image.score === null) return "failed";
  if (image.verdict === "unknown") return "unknown"; // whatever its score
  if (image.small) return "normal"; // whatever its score, too: it has no region that is large enough
  if (limit === scale.start && image.verdict) return image.verdict; // as in the files beside the page, digit for digit
  return scale.above(image) ? "anomalous" : "normal";
}
const passed = (image) => verdict(image) === "normal";
const called = (image) => image.score !== null && !passed(image); // what is unknown has not passed

const NAMES = { anomalous: "anomalous", normal: "normal", unknown: "unknown", failed: "no result" };
const CHOICES = {
  all: ["all images", () => true],
  anomalous: ["anomalous", (image) => verdict(image) === "anomalous"],
  normal: ["normal", passed],
};
if (images.some((image) => image.verdict === "unknown")) {
  CHOICES.unknown = ["unknown", (image) => verdict(image) === "unknown"];
}
if (scored.length < images.length) CHOICES.failed = ["without a result", (image) => image.score === null];
if (data.labelled) {
  CHOICES.missed = ["missed defects", (image) => image.defect !== null && passed(image)];
  CHOICES.false = ["false alarms", (image) => image.defect === null && called(image)];
}
CHOICES.marked = ["marked by you", (image) => marks.has(image.path)];

// About 1 of N good parts scores as high or higher.
function rarity(image, one, rarer) {
  return image.calibrated > RAREST ? `${rarer}10,000` : `${one}${whole(10 ** image.calibrated)}`;
}
