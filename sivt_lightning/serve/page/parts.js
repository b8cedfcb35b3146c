// -- the parts that the server keeps, and marks ----------------------------------------------------------------------

const KINDS = { normal: "calm", unknown: "strange", anomalous: "alarm" };
const CHOICES = {
  all: () => true,
  failed: ({ verdict }) => verdict !== "normal",
  open: ({ mark }) => !mark,
};
const WHO = "sivt name";
let kept = null; // what the server says of them
let keeps = data.keeps; // whether it does

function list() {
  const chosen = kept.parts.filter(CHOICES[at("show").value]);
  const missing = kept.not_kept ? ` ${kept.not_kept} more were judged, and there was no room to keep them.` : "";
  at("listed").textContent = kept.parts.length
    ? `${chosen.length} of ${kept.parts.length}. Choose one to see its photo and map.${missing}`
    : `None has been judged yet.${missing}`;
  at("list").hidden = !kept.parts.length;
  const held = document.activeElement?.closest("#parts tr")?.dataset.id;
  forgetThumbnails();
  at("parts").replaceChildren(...chosen.map(row));
  const rows = [...at("parts").children];
  const first = rows.find(({ dataset }) => dataset.id === (held ?? part?.id)) ?? rows[0];
  if (first) first.querySelector("button").tabIndex = 0; // the others by arrow keys
  if (held && first) first.querySelector("button").focus();
}

function row(one) {
  const made = element("tr", one.id === part?.id ? "chosen" : "");
  made.dataset.id = one.id;
  const button = element("button", "", moment(one.time));
  button.type = "button";
  button.tabIndex = -1;
  button.setAttribute("aria-label", [moment(one.time), one.verdict, one.product].filter(Boolean).join(", "));
  if (one.id === part?.id) button.setAttribute("aria-current", true);
  const name = element("td", "");
  name.append(thumbnail(one.id), button);
  if (one.name) name.append(element("div", "name", one.name));
  const verdict = element("td", "");
  verdict.append(element("span", `badge ${one.verdict}`, one.verdict));
  if (one.product) verdict.append(element("div", "name", one.product));
  const score = element("td", "", short(one.score));
  score.append(element("div", "name", `limit ${short(one.threshold)}`));
  const mark = element("td", "", one.mark ? one.mark.says : "");
  if (one.mark) mark.append(element("div", "name", one.mark.who));
  made.append(name, verdict, score, mark);
  return made;
}

async function choose(id) {
  const mine = (turn += 1), one = kept.parts.find((one) => one.id === id);
  if (!one) return;
  show({ ...one, photo: null, map: null });
  const path = `v1/parts/${encodeURIComponent(id)}`;
  const got = await Promise.allSettled([picture(`${path}/photo`), picture(`${path}/map`)]);
  const [photo, map] = got.map(({ value }) => value ?? null);
  if (mine !== turn) {
    for (const address of [photo, map]) if (address) URL.revokeObjectURL(address);
    return;
  }
  part.unseen = got.find(({ reason }) => reason)?.reason.message;
  Object.assign(part, { photo, map });
  layers();
}

function step(event) { // through the list, by arrow keys
  const here = event.target.closest("#parts tr");
  const to = here && {
    ArrowDown: here.nextElementSibling, ArrowUp: here.previousElementSibling,
    Home: here.parentElement.firstElementChild, End: here.parentElement.lastElementChild,
  }[event.key];
  if (!to) return;
  event.preventDefault();
  here.querySelector("button").tabIndex = -1;
  to.querySelector("button").tabIndex = 0;
  to.querySelector("button").focus();
}

// What a part is by a person who calls its verdict right, and by one who calls it wrong.
const SHOWS = { good: "good", defect: "defective" };
const saying = ({ verdict }) => (verdict === "normal" ? ["good", "defect"] : verdict === "anomalous" ? ["defect", "good"] : null);

function marking() {
  at("marking").hidden = !part.id || !keeps;
  const [right, wrong] = saying(part) ?? ["good", "defect"];
  const known = saying(part) !== null;
  for (const [id, word, says] of [["right", "Right", right], ["wrong", "Wrong", wrong]]) {
    at(id).textContent = known ? `${word}: it is ${SHOWS[says]}` : `It is ${SHOWS[says]}`;
    at(id).dataset.says = says;
    at(id).setAttribute("aria-pressed", part.mark?.says === says);
  }
  at("undo").hidden = !part.mark;
  at("marked").textContent = part.mark
    ? `Marked as ${SHOWS[part.mark.says]} by ${part.mark.who}, ${moment(part.mark.time)}.` : "";
}

async function mark(says) { // or undo it
  const who = at("who").value.trim(), id = part.id;
  if (!who) {
    at("marked").textContent = "Say who you are first: marks are kept with a name.";
    at("who").focus();
    return;
  }
  store("localStorage", WHO, who);
  const path = `v1/parts/${encodeURIComponent(id)}/mark`;
  try {
    const marked = says
      ? await asked(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ says, who }) })
      : await asked(`${path}?who=${encodeURIComponent(who)}`, { method: "DELETE" });
    kept.parts = kept.parts.map((one) => (one.id === id ? marked : one));
    if (part.id === id) {
      part.mark = marked.mark;
      if (!part.mark) at("right").focus(); // the button that was pressed is gone
      marking();
    }
    drawn();
  } catch (error) {
    at("marked").textContent = error.message;
  }
}

async function saveMarks() {
  try {
    const answer = await ask("v1/marks");
    const link = element("a", "");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = /filename="?([^";]+)/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "marks.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  } catch (error) {
    at("listed").textContent = error.message;
  }
}
