// Sliders, brush, two students side by side and the command to export. Runs before page.js, which draws the figures.
// A move costs one pass over the students and a few elements drawn, however many points the figures have.
(() => {
  "use strict";
  const section = document.getElementById("choose");
  if (!section) return;
  const { students, choose } = JSON.parse(document.getElementById("report-data").textContent);
  const { columns, more, order, dials, measure, command } = choose;
  const front = new Set(choose.front);
  const known = new Set(order);
  const place = new Map(columns.map((name, i) => [name, i]));
  const get = (i, name) => (place.has(name) ? students[i][place.get(name)] : more[name]?.[i] ?? null);
  const byName = new Map(order.map((i) => [get(i, "id"), i]));
  const $ = (id) => document.getElementById(id);
  const plots = [...document.querySelectorAll("[data-brush]")];

  const other = [choose.knee, choose.half, ...order].find((i) => i !== null && i !== choose.best) ?? null;
  const state = { limits: [], brush: null, chosen: choose.best ?? order[0], held: other };

  // ---- numbers as words, as units.py has them

  function threeDigits(value) {
    const size = Math.abs(value);
    const digits = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }
  const PREFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "K"], [1, ""]];
  function words(dial, value) {
    const prefixed = dial.unit.includes("{}");
    const [power, prefix] = prefixed ? PREFIXES.find(([p]) => value >= 0.9995 * p) ?? [1, ""] : [1, ""];
    return `${threeDigits(value / power)} ${dial.unit.replace("{}", prefix)}`.replace("  ", " ");
  }
  const percent = (share) => `${(100 * share).toLocaleString("en", { maximumSignificantDigits: 2 })} %`;
  const fixed = (value) => value.toFixed(4);

  // ---- which students are in

  // A slider's stops: the costs of scored students.
  const stops = dials.map((dial) => {
    const costs = order.map((i) => get(i, dial.column)).filter((value) => value !== null);
    return [...new Set(costs)].sort((a, b) => a - b);
  });
  const within = (i) => dials.every(({ column }, d) => get(i, column) === null || get(i, column) <= state.limits[d]);
  function brushed(i) {
    if (!state.brush) return true;
    const { dial, from, to, low, high } = state.brush;
    const [cost, value] = [get(i, dials[dial].column), get(i, measure.column)];
    return cost >= from && cost <= to && (low === null || (value !== null && value >= low && value <= high));
  }
  const inside = () => order.filter((i) => within(i) && brushed(i));

  // ---- controls

  const sliders = [...section.querySelectorAll("[data-dial]")];

  function setLimit(d, position) {
    const limit = stops[d][position];
    state.limits[d] = limit ?? Infinity;
    sliders[d].value = position;
    const all = position === stops[d].length - 1;
    const text = limit === undefined ? "none known" : words(dials[d], limit);
    sliders[d].previousElementSibling.textContent = all ? `all, up to ${text}` : `≤ ${text}`;
    sliders[d].setAttribute("aria-valuetext", all ? `all, up to ${text}` : `at most ${text}`);
  }

  function toBudgets() {
    dials.forEach((dial, d) => {
      const limit = dial.limit ?? Infinity;
      const position = stops[d].findLastIndex((value) => value <= limit);
      sliders[d].max = Math.max(stops[d].length - 1, 0);
      sliders[d].disabled = stops[d].length < 2;
      setLimit(d, Math.max(position, 0));
    });
  }

  const unitOf = (dial) => (dial.unit.includes("{}") ? { scale: 1e6, name: dial.unit.replace("{}", "M") } : { scale: 1, name: dial.unit });

  function showBrush() {
    const dial = dials[$("brush-cost").value];
    const { scale, name } = unitOf(dial);
    $("brush-unit").textContent = name;
    const text = (value) => (state.brush && Number.isFinite(value) ? Number((value / scale).toPrecision(4)) : "");
    $("brush-from").value = text(state.brush?.from || Infinity);
    $("brush-to").value = text(state.brush?.to);
    $("brush-clear").disabled = !state.brush;
  }

  function readBrush() {
    const dial = Number($("brush-cost").value);
    const { scale } = unitOf(dials[dial]);
    const [from, to] = [$("brush-from").value, $("brush-to").value];
    const typed = from !== "" || to !== "";
    state.brush = typed ? { dial, from: Number(from) * scale, to: to === "" ? Infinity : Number(to) * scale, low: null, high: null } : null;
    $("brush-clear").disabled = !typed;
  }

  // The box is drawn by us, and plotly's own hidden (choose.css): it would stay when the brush is typed or cleared.
  function dragged(plot, event) {
    const range = event?.range;
    if (!range?.x || !range.y) return;
    const dial = dials.findIndex(({ column }) => column === plot.dataset.figure);
    const [from, to] = [...range.x].sort((a, b) => a - b);
    const [low, high] = [...range.y].sort((a, b) => a - b);
    state.brush = { dial, from, to, low, high };
    $("brush-cost").value = dial;
    showBrush();
    takeBest();
  }

  function clearBrush() {
    state.brush = null;
    showBrush();
    takeBest();
  }

  // ---- the choice

  const update = { pending: false };
  function render() {
    if (update.pending) return;
    update.pending = true;
    requestAnimationFrame(() => {
      update.pending = false;
      showChoice();
      showComparison();
      plots.forEach(showMarks);
    });
  }

  function takeBest() {
    state.chosen = inside()[0] ?? null;
    render();
  }

  function value(i, column) {
    const number = get(i, column);
    return number === null ? "–" : fixed(number);
  }

  function sentence(i) {
    const costs = dials.filter(({ column }) => get(i, column) !== null).map((dial) => words(dial, get(i, dial.column)));
    return `${measure.name} ${value(i, measure.column)}, ${costs.join(", ")}`;
  }

  function showChoice() {
    const [i, all] = [state.chosen, inside()];
    const count = `${all.length.toLocaleString("en")} of ${order.length.toLocaleString("en")} scored students`;
    const where = `${count} are within the limits${state.brush ? " and the brush" : ""}, ${all.filter((j) => front.has(j)).length} of them on the front.`;
    const name = document.createElement("strong");
    name.textContent = i === null ? "No scored student is that cheap." : get(i, "id");
    const role = i === null ? "" : i === all[0] ? " is the best within the limits" : all.includes(i) ? " is your choice" : " is your choice, outside the limits";
    const facts = i === null ? " Move a slider up or clear the brush. " : `${role}: ${sentence(i)}. `;
    $("choice").replaceChildren(name, facts, where);
    $("pick-chosen").value = i === null ? "" : get(i, "id");
    $("pick-held").value = state.held === null ? "" : get(state.held, "id");
    $("hold").disabled = i === null;
    showCommand(i);
  }

  const quoted = (name) => (/^[\w.@+-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`);
  function showCommand(i) {
    const copy = section.querySelector("[data-copy]");
    copy.disabled = i === null;
    if (!command) return;
    const pick = i === choose.best ? "best" : i === null ? "" : quoted(get(i, "id"));
    $("export-command").textContent = i === null ? "" : `${command[0]} --pick ${pick} ${command[1]}`;
  }

  // ---- side by side

  const integer = (number) => number.toLocaleString("en");
  const relative = (ours, theirs) => percent(Math.abs(ours - theirs) / Math.abs(theirs));
  const absolute = (text) => (ours, theirs) => text(Math.abs(ours - theirs));
  const count = (label, column) => [label, column, integer, absolute(integer)];
  const quality = (label, column) => [label, column, fixed, absolute(fixed)];
  // Label, column, text of a number, text of a difference.
  const FACTS = [
    ["Sub-space", "sub_space", String],
    ...choose.sizes.map(([label, column]) => count(label, column)),
    ...dials.map((dial) => [dial.name, dial.column, (number) => words(dial, number) + share(dial, number), relative]),
    quality("Score on the task", "score"),
    quality("Held-out loss", "loss"),
    quality("Loss refined alone", "refined_loss"),
    count("Rank", "rank"),
    count("Rank in its sub-space", "rank_in_sub_space"),
  ].filter(([, column]) => order.some((i) => get(i, column) !== null));
  const share = (dial, number) => (dial.teacher ? ` (${percent(number / dial.teacher)} of teacher)` : "");

  function difference(ours, theirs, text) {
    if (ours === null || theirs === null) return "";
    if (ours === theirs) return "same";
    return text ? (ours > theirs ? "+" : "−") + text(ours, theirs) : "differs";
  }

  function row([label, column, text, apart]) {
    const [ours, theirs] = [state.chosen, state.held].map((i) => (i === null ? null : get(i, column)));
    const element = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.className = "text";
    head.textContent = label;
    const cells = [ours === null ? "–" : text(ours), theirs === null ? "–" : text(theirs), difference(ours, theirs, apart)];
    element.append(head, ...cells.map((cell) => Object.assign(document.createElement("td"), { textContent: cell })));
    return element;
  }

  function showComparison() {
    $("comparison").tBodies[0].replaceChildren(...FACTS.map(row));
    const pair = [["chosen", "Chosen"], ["held", "Compared with"]];
    const shown = pair.map(([key]) => state[key]).filter((i) => i !== null);
    const wide = Math.max(1, ...shown.flatMap(widths));
    const deep = Math.max(1, ...shown.map((i) => layersOf(i).length));
    for (const [key, label] of pair) $(`sketch-${key}`).replaceChildren(...sketch(state[key], label, wide, deep));
  }

  // ---- sketches

  // [heads, FFN units] of each layer; of each of the teacher's where layers have sizes of their own.
  const layersOf = (i) => (choose.layers?.[i]?.length ? choose.layers[i]
    : Array(get(i, "num_layers")).fill([get(i, "num_heads"), get(i, "intermediate_size")]));
  const widths = (i) => ["hidden_size", "intermediate_size", "embedding_size"].map((name) => get(i, name) ?? 0);
  const SVG = document.querySelector("#sketch-chosen svg").namespaceURI; // a page without addresses needs no network
  const WIDTH = 320;
  const LAYER = 26; // of few layers; many share TALLEST
  const TALLEST = 320;
  const EMBEDDINGS = 20;

  function shape(name, attributes, text = "") {
    const element = document.createElementNS(SVG, name);
    for (const [key, item] of Object.entries(attributes)) element.setAttribute(key, item);
    element.textContent = text;
    return element;
  }

  function bar(width, y, height, kind) {
    return shape("rect", { x: (WIDTH - width) / 2, y, width, height, rx: 1.5, class: kind });
  }

  function attention(width, y, height, heads) {
    const cell = width / heads;
    const gap = Math.min(1, cell / 4);
    return Array.from({ length: heads }, (_, h) =>
      shape("rect", { x: (WIDTH - width) / 2 + h * cell + gap / 2, y, width: cell - gap, height, class: "heads" }));
  }

  function sketch(i, label, wide, deep) {
    const caption = document.createElement("figcaption");
    if (i === null) return [Object.assign(caption, { textContent: `${label}: none` })];
    const [layers, hidden, heads, ffn] = ["num_layers", "hidden_size", "num_heads", "intermediate_size"].map((name) => get(i, name));
    const own = layersOf(i);
    const uneven = new Set(own.map(String)).size > 1;
    const each = (part, alike) => (uneven ? own.map((sizes) => sizes[part]).join(", ") : alike);
    const pitch = Math.min(LAYER, TALLEST / deep);
    const height = pitch * deep + EMBEDDINGS;
    const scale = (size) => (WIDTH * size) / wide;
    const said = `${layers} layers of width ${hidden} with ${each(0, heads)} heads, feed-forward ${each(1, ffn)}`;
    caption.append(Object.assign(document.createElement("strong"), { textContent: `${label}: ${get(i, "id")}` }), ` ${said}`);
    const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": said, class: "sketch" });
    own.forEach(([count, units], layer) => {
      const top = (deep - layer - 1) * pitch;
      drawing.append(bar(scale(units), top + pitch * 0.05, pitch * 0.35, "ffn"));
      drawing.append(...attention(scale(count * get(i, "head_size")), top + pitch * 0.45, pitch * 0.45, count));
    });
    drawing.append(bar(scale(get(i, "embedding_size") ?? hidden), height - 14, 14, "embeddings"));
    return [drawing, caption];
  }

  // ---- marks in the figures

  // Marks lie on a layer of our own over each figure: plotly would redraw every student to move one of its shapes.
  function onAxis(axis, number) {
    const position = axis.type === "log" ? Math.log10(number) : number;
    return (position - axis.range[0]) / (axis.range[1] - axis.range[0]);
  }
  const clamped = (part) => Math.min(Math.max(part, 0), 1);

  function showMarks(plot) {
    const area = plot.querySelector('.nsewdrag[data-subplot="xy"]');
    const { xaxis, yaxis } = plot.layout ?? {};
    if (!area || !yaxis?.range) return;
    const [left, top, width, height] = ["x", "y", "width", "height"].map((name) => Number(area.getAttribute(name)));
    const x = (number) => left + width * clamped(number > 0 || xaxis.type !== "log" ? onAxis(xaxis, number) : 0);
    const y = (number) => top + height * (1 - clamped(onAxis(yaxis, number)));
    const layer = plot.querySelector(".marks") ?? plot.appendChild(shape("svg", { class: "marks", "aria-hidden": true }));
    const d = dials.findIndex(({ column }) => column === plot.dataset.figure);
    const [limit, box] = [state.limits[d], state.brush?.dial === d ? state.brush : null];
    const marks = [];
    const rect = (name, x0, x1, y0, y1) => marks.push(shape("rect", { class: name, x: x0, y: y0, width: Math.max(x1 - x0, 0), height: Math.max(y1 - y0, 0) }));
    if (limit < stops[d].at(-1)) rect("limit", x(limit), left + width, top, top + height);
    if (box) rect("brush-box", x(box.from), x(box.to), box.high === null ? top : y(box.high), box.low === null ? top + height : y(box.low));
    for (const [key, radius] of [["held", 13], ["chosen", 10]]) {
      const [i, at] = [state[key], state[key] === null ? null : get(state[key], measure.column)];
      const inRange = at !== null && [onAxis(xaxis, get(i, plot.dataset.figure)), onAxis(yaxis, at)].every((part) => part >= 0 && part <= 1);
      const [cx, cy] = inRange ? [x(get(i, plot.dataset.figure)), y(at)] : [0, 0];
      if (inRange) rect(key, cx - radius, cx + radius, cy - radius, cy + radius);
    }
    layer.replaceChildren(...marks);
  }

  // ---- events

  function pick(key, i) {
    if (i === undefined || !known.has(i)) return;
    state[key] = i;
    render();
  }

  function suggest(input) {
    const typed = input.value.toLowerCase();
    const names = order.map((i) => get(i, "id")).filter((name) => name.toLowerCase().includes(typed)).slice(0, 20);
    $("pick-names").replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  }

  section.addEventListener("input", ({ target }) => {
    if (target.dataset.dial) {
      setLimit(Number(target.dataset.dial), Number(target.value));
      takeBest();
    } else if (target.id === "brush-from" || target.id === "brush-to") {
      readBrush();
      takeBest();
    } else if (target.id === "brush-cost") {
      clearBrush();
    } else if (target.list) suggest(target);
  });
  section.addEventListener("change", ({ target }) => {
    if (!target.list) return;
    const i = byName.get(target.value.trim());
    target.setAttribute("aria-invalid", i === undefined);
    target.setCustomValidity(i === undefined ? "no scored student has this name" : "");
    target.reportValidity();
    if (i !== undefined) pick(target.id === "pick-held" ? "held" : "chosen", i);
  });
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    if (button.dataset.pick !== undefined) pick("chosen", byName.get(button.textContent));
    if (button.id === "hold") pick("held", state.chosen);
    if (button.id === "reset") toBudgets();
    if (button.id === "brush-clear" || button.id === "reset") clearBrush();
  });
  document.addEventListener("drawn", () => {
    for (const plot of plots) {
      if (!plot.dataset.wired) {
        plot.dataset.wired = true;
        plot.on("plotly_selected", (event) => dragged(plot, event));
        plot.on("plotly_afterplot", () => showMarks(plot));
        plot.on("plotly_deselect", clearBrush);
        plot.on("plotly_click", ({ points: [point] }) => pick("chosen", point.data.meta?.students[point.pointIndex]));
      }
      showMarks(plot);
    }
  });

  toBudgets();
  showBrush();
  suggest($("pick-chosen"));
  render();
})();
