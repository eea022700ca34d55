// Draws the figures in the page's colours, sorts the tables and copies the command. Everything is in #report-data.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll("[data-figure]")];
  const config = {
    displaylogo: false,
    responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"], // a report stays where it is
    toImageButtonOptions: { filename: "autodistil-front", scale: 2 },
  };

  // Keys that end in "color" may name CSS variables; text is left alone, whatever it holds.
  function resolved(node, key, style) {
    if (Array.isArray(node)) return node.map((item) => resolved(item, key, style));
    if (node && typeof node === "object") {
      return Object.fromEntries(Object.entries(node).map(([name, value]) => [name, resolved(value, name, style)]));
    }
    const variable = key.endsWith("color") && /^var\((--[a-z0-9-]+)\)$/.exec(node);
    return variable ? style.getPropertyValue(variable[1]).trim() : node;
  }

  // plotly reads markup, TeX and templates in labels; names are text.
  const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "{": "&#123;" };
  const asText = (value) => (typeof value === "string" ? value.replace(/[&<>${]/g, (sign) => ENTITIES[sign]) : value);

  const facts = data.students.map((row) => row.map(asText));
  for (const trace of Object.values(data.figures).flatMap((figure) => figure.data)) {
    if (!trace.meta) continue;
    const { students, x, y } = trace.meta;
    trace.customdata = students.map((i) => facts[i]);
    trace.x = students.map((i) => facts[i][x]);
    trace.y = students.map((i) => (y === null ? 0 : facts[i][y]));
  }

  // Figures to brush keep plotly's box; see choose.js.
  const brushes = { ...config, modeBarButtonsToRemove: config.modeBarButtonsToRemove.slice(1) };
  const isBrush = (plot) => plot.hasAttribute("data-brush");

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const coarse = matchMedia("(pointer: coarse)").matches;
    const drawn = plots.map((plot) => {
      const figure = resolved(data.figures[plot.dataset.figure], "", style);
      // On touch screens a finger over a figure scrolls the page.
      const layout = { ...figure.layout, dragmode: coarse ? false : isBrush(plot) ? "select" : "zoom" };
      const options = isBrush(plot) ? brushes : config;
      return Plotly.react(plot, figure.data, layout, { ...options, displayModeBar: plot.classList.contains("tall") });
    });
    Promise.all(drawn).then(() => {
      document.documentElement.dataset.drawn = drawn.length;
      document.dispatchEvent(new Event("drawn"));
    });
  }

  function sortBy(header) {
    const body = header.closest("table").tBodies[0];
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const sign = ascending ? 1 : -1;
    const value = (row) => row.cells[header.cellIndex].dataset.value;
    const number = (row) => Number(value(row)) * sign;
    const byNumber = (a, b) => (value(a) === "") - (value(b) === "") || number(a) - number(b); // blanks stay last
    const byText = (a, b) => sign * value(a).localeCompare(value(b), "en", { numeric: true });
    body.append(...[...body.rows].sort(header.classList.contains("text") ? byText : byNumber));
  }

  function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const say = (text) => {
      button.textContent = text;
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    };
    const select = () => {
      getSelection().selectAllChildren(source);
      say("Selected");
    };
    if (!navigator.clipboard) return select();
    navigator.clipboard.writeText(source.textContent).then(() => say("Copied"), select);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copy) copy(button);
    else if (button.closest("th")) sortBy(button.closest("th"));
  });
  dark.addEventListener("change", draw);
  draw();
})();
