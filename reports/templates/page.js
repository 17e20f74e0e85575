"use strict";

/* Figures: drawn in the colours of the page, again when those change. */
const plots = [...document.querySelectorAll("[data-figure]")];
const dark = matchMedia("(prefers-color-scheme: dark)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    "font.color": of("--soft"),
    "hoverlabel.bgcolor": of("--card"),
    "hoverlabel.bordercolor": of("--line"),
    "hoverlabel.font.color": of("--ink"),
  };
}

for (const plot of plots) {
  const { data, layout } = JSON.parse(document.getElementById("figure-" + plot.dataset.figure).textContent);
  if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
  Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false })
    .then(() => Plotly.relayout(plot, colours()));
}
const repaint = () => plots.forEach((plot) => Plotly.relayout(plot, colours()));
dark.addEventListener("change", repaint);

/* Printing: what is folded opens, and the figures take the width and colours of the paper. */
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  repaint();
});
addEventListener("afterprint", repaint);

/* The table: complete and stopped trials are separate bodies, each sorted in itself. */
const table = document.getElementById("table");

function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === ""); // what is not known comes last
  const x = Number(a), y = Number(b);
  const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  return sign * order;
}

function sortBy(heading) {
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  heading.parentNode.querySelectorAll("th").forEach((one) => one.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const column = heading.cellIndex;
  for (const body of table.tBodies) {
    if (body.classList.contains("group")) continue;
    const rows = [...body.rows];
    rows.sort((a, b) => compare(a.cells[column].dataset.v, b.cells[column].dataset.v, sign));
    body.append(...rows);
  }
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...table.querySelectorAll("tbody:not(.group) tr")];
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
  }
  const shown = rows.filter((row) => !row.hidden).length;
  document.getElementById("shown").textContent = words.length ? `${shown} of ${rows.length} rows` : "";
}

if (table) {
  table.querySelectorAll("thead th").forEach((heading) => {
    heading.firstElementChild.addEventListener("click", () => sortBy(heading));
  });
  const field = document.getElementById("filter");
  field.addEventListener("input", () => filter(field.value));
  field.form.addEventListener("submit", (event) => event.preventDefault());
}
