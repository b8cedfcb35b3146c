// -- what is made of a map -------------------------------------------------------------------------------------------

// Maps are grey pictures: colours, mask and outline are made of them here. Up to `level` of 255 is normal.
function filters(level, colours) {
  const steps = Array.from({ length: 256 }, (_, i) => Number(i > level)).join(" ");
  const channels = [0, 1, 2].map((channel) => colours.map((colour) => colour[channel] / 255).join(" "));
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
