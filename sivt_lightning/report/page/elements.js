"use strict";
// What pages are made with. These files, and those of a page, are joined into one script.
const at = (id) => document.getElementById(id);
const short = (x) => (x === null ? "none" : Number(x.toPrecision(3)).toString());
const whole = (x) => Number(x.toPrecision(2)).toLocaleString("en");
const percent = (share) => `${short(100 * share)} %`;

function element(kind, className, text) {
  const made = document.createElement(kind);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
function shape(kind, attributes, text) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, set] of Object.entries(attributes)) made.setAttribute(name, set);
  if (text !== undefined) made.textContent = text;
  return made;
}
