// -- setting up ------------------------------------------------------------------------------------------------------

function choose(select, pairs) {
  select.append(...pairs.map(([key, text]) => {
    const option = element("option", "", text);
    option.value = key;
    return option;
  }));
}

function setUp() {
  filters(data.level, data.colours);
  choose(at("verdict"), Object.entries(CHOICES).map(([key, [text]]) => [key, text]));
  const folders = new Set();
  for (const { path } of images) { // every folder above an image, too
    for (let end = path.indexOf("/"); end >= 0; end = path.indexOf("/", end + 1)) folders.add(path.slice(0, end + 1));
  }
  choose(at("folder"), [["", "all folders"], ...[...folders].sort().map((folder) => [folder, folder])]);
  at("folder").parentElement.hidden = folders.size === 0;
  const products = [...new Set(images.map((image) => image.product))].filter(Boolean).sort();
  choose(at("product"), [["", "all products"], ...products.map((name) => [name, name])]);
  at("product").parentElement.hidden = products.length < 2;
  choose(at("order"), [["high", scale.orders[0]], ["low", scale.orders[1]], ["name", "name"]]);
  at("truths").hidden = !images.some((image) => image.truth);
  at("unit").textContent = scale.unit;
  at("axis").textContent = scale.axis;
  at("slider").style.setProperty("--from", part(scale.from));
  at("slider").setAttribute("aria-label", scale.unit);
  at("reset").textContent = scale.start === null ? "No threshold was found in training" : `Back to ${scale.said(scale.start)}`;
  for (const [kind, text, of] of KINDS) {
    if (kind !== "strange" || images.some(of)) at("key").append(element("i", kind), text);
  }
  if (promised) at("pixel").textContent = `pixel threshold at ${scale.said(scale.start)}`; // the slider leaves it
  const stops = data.colours.map((colour) => `rgb(${colour.join(",")})`).join(",");
  at("colours").style.background = `linear-gradient(to right, ${stops})`;

  for (const id of ["verdict", "product", "folder", "order"]) at(id).addEventListener("change", update);
  at("search").addEventListener("input", update);
  at("slider").addEventListener("input", () => setLimit(slid(), "slider"));
  at("exact").addEventListener("input", () => setLimit(scale.entered(at("exact").valueAsNumber), "exact"));
  at("reset").addEventListener("click", () => setLimit(scale.start, "reset"));
  at("export").addEventListener("click", () => save("list.csv", list()));
  at("verdicts").addEventListener("click", () => save("verdicts.csv", verdicts()));
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
    if (event.key.toLowerCase() === "w" && !event.ctrlKey && !event.metaKey && !event.altKey) mark();
    if (step && !event.target.matches("input")) show(shown + step); // an input's arrows are its own
  });
  at("wrong").addEventListener("click", mark);
  for (const id of ["views", "truth", "opacity"]) at(id).addEventListener("input", layers);
  new IntersectionObserver(([seen]) => seen.isIntersecting && draw(), { rootMargin: "600px" }).observe(at("more"));
  new ResizeObserver(histogram).observe(at("histogram"));
  countMarks();
  setLimit(limit, "start");
}
setUp();
