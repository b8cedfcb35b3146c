// -- small pictures of listed parts, asked for one after the other as they come into view ----------------------------

const small = new Map(); // by the part's id: the box that has its picture, or will have
const coming = [];
let fetching = false;

const watching = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    if (!isIntersecting) continue;
    watching.unobserve(target);
    coming.push(target);
  }
  fetchThumbnails();
});
document.addEventListener("visibilitychange", fetchThumbnails);

function thumbnail(id) {
  if (!small.has(id)) {
    const box = element("span", "small");
    box.dataset.part = id;
    small.set(id, box);
    watching.observe(box);
  }
  return small.get(id);
}

async function fetchThumbnails() {
  if (fetching) return;
  fetching = true;
  while (coming.length && !document.hidden) {
    const box = coming.shift(), { part: id } = box.dataset, made = element("img", "");
    if (!box.isConnected) { // the list has changed meanwhile
      small.delete(id);
      continue;
    }
    made.alt = ""; // the button beside it says which part it is
    made.addEventListener("load", () => URL.revokeObjectURL(made.src));
    made.addEventListener("error", () => made.remove()); // a TIFF, where there is only the photo
    try {
      made.src = await picture(`v1/parts/${encodeURIComponent(id)}/thumbnail`);
      box.append(made);
    } catch {
      small.delete(id); // the next list asks again
    }
  }
  fetching = false;
}

function forgetThumbnails() { // of parts that are gone
  const here = new Set(kept.parts.map(({ id }) => id));
  for (const id of small.keys()) if (!here.has(id)) small.delete(id);
}
