// -- looking again and again, and setting up -------------------------------------------------------------------------

const PAUSE = 4000; // ms between two looks, while the page is seen
const EVERY = 5; // looks until drift and model are asked for again

let due = null, looking = false, again = false, looks = 0, failures = 0;

async function refresh() { // one request at a time, and none while nobody looks
  clearTimeout(due);
  if (locked() || document.hidden) return;
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  try {
    if (keeps) await lookAtParts();
    if (looks % EVERY === 0) {
      model(await asked("v1/model"));
      drift(await asked("v1/drift"));
    }
    looks += 1;
    failures = 0;
    at("trouble").textContent = "";
  } catch (error) {
    failures += 1;
    if (error.status !== 401) at("trouble").textContent = `${error.message} What is shown may be old.`;
  }
  looking = false;
  due = setTimeout(refresh, again ? 0 : PAUSE * Math.min(8, 2 ** failures));
  again = false;
}

let before = "";
async function lookAtParts() {
  let text;
  try {
    text = await (await ask("v1/parts?last=100")).text();
  } catch (error) {
    if (error.status !== 404) throw error;
    text = '{"kept": false}'; // a server without them
  }
  const said = JSON.parse(text);
  if (!said.kept) {
    keepsNone();
  } else if (text !== before) {
    const first = kept === null;
    kept = said;
    drawn();
    if (first && !part && kept.parts.length) choose(kept.parts[0].id);
  }
  before = text;
}

function keepsNone() {
  keeps = false;
  for (const one of document.querySelectorAll(".kept")) one.hidden = true;
  at("listed").textContent = "This server keeps no parts, so there are none to look at, count or mark: photos are judged "
    + "all the same. Started with --state FOLDER it keeps them.";
}

function drawn() {
  const here = kept.parts.find(({ id }) => id === part?.id);
  if (here && JSON.stringify(here.mark) !== JSON.stringify(part.mark)) { // somebody else's
    part.mark = here.mark;
    marking();
  }
  list();
  counts();
  alarms();
}

function setUp() {
  filters(LEVEL, data.colours);
  at("colours").style.background = `linear-gradient(to right, ${data.colours.map((of) => `rgb(${of.join(",")})`).join(",")})`;
  at("who").value = stored("localStorage", WHO) ?? "";
  at("lock").addEventListener("submit", enter);
  at("forget").addEventListener("click", () => {
    store("sessionStorage", TOKEN, "");
    location.reload(); // nothing of what was shown stays
  });
  at("choose").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", () => {
    judge([...at("file").files]);
    at("file").value = ""; // the same one may be chosen again
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    window.addEventListener(kind, (event) => {
      event.preventDefault(); // which would leave the page for the photo
      at("drop").classList.toggle("over", kind === "dragover" || kind === "dragenter");
      if (kind === "drop" && !locked()) judge([...event.dataTransfer.files]);
    });
  }
  at("camera").addEventListener("click", () => (stream ? turnOff() : turnOn()));
  at("take").addEventListener("click", take);
  at("off").addEventListener("click", () => {
    turnOff();
    at("camera").focus();
  });
  for (const id of ["views", "boxes"]) at(id).addEventListener("input", layers);
  at("opacity").addEventListener("input", fade);
  at("show").addEventListener("change", list);
  at("parts").addEventListener("keydown", step);
  at("parts").addEventListener("click", (event) => {
    const chosen = event.target.closest("tr");
    if (!chosen) return;
    choose(chosen.dataset.id);
    if (matchMedia("(max-width: 959px)").matches) at("part").scrollIntoView(); // it stands above the list
  });
  at("right").addEventListener("click", () => mark(at("right").dataset.says));
  at("wrong").addEventListener("click", () => mark(at("wrong").dataset.says));
  at("undo").addEventListener("click", () => mark(null));
  at("save").addEventListener("click", saveMarks);
  document.addEventListener("visibilitychange", refresh);
  if (!keeps) keepsNone();
  unlocked();
}
setUp();
