"use strict";
// Additions to a page that reads fully without them: tool tips by keyboard, sorting, models that can be
// hidden, and downloads. The page's policy allows this script by its hash, and nothing is loaded.

const DOWNLOADS = { svg: "image/svg+xml", png: "image/png", md: "text/markdown", tex: "text/x-tex" };

function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

function button(text, label, action) {
  const made = make("button", { type: "button", "aria-label": label }, text);
  made.addEventListener("click", () => action(made));
  return made;
}

function save(content, name, type) {
  const link = make("a", { download: name });
  link.href = URL.createObjectURL(new Blob([content], { type: DOWNLOADS[type] }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function fileName(text, type) {
  return text.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 80) + "." + type;
}

// Tool tips: with the pointer over a shape, or with the arrow keys in a focused figure.

const tip = make("div", { class: "tip", role: "status", hidden: "" });

function show(shape, text) {
  const box = shape.getBoundingClientRect();
  tip.textContent = text;
  tip.hidden = false;
  const left = Math.min(box.left + box.width / 2 + 10, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(8, left) + scrollX}px`;
  tip.style.top = `${(above < 0 ? box.bottom + 8 : above) + scrollY}px`;
}

function addTips(plot) {
  const texts = new Map();
  for (const title of plot.querySelectorAll("title")) {
    texts.set(title.parentNode, title.textContent);
    title.remove(); // the browser's own tool tip would cover this one
  }
  if (!texts.size) return;
  const shapes = [...texts.keys()];
  let current = null;
  const leave = () => {
    current?.classList.remove("at");
    tip.hidden = true;
  };
  const go = (shape) => {
    leave();
    current = shape;
    current.classList.add("at");
    show(current, texts.get(current));
  };
  plot.tabIndex = 0;
  plot.setAttribute("role", "group");
  plot.setAttribute("aria-label", plot.firstElementChild.getAttribute("aria-label") + ". Arrow keys show its numbers");
  plot.addEventListener("pointerover", (event) => {
    const shape = event.target.closest("use, path, circle");
    if (texts.has(shape)) go(shape);
  });
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return leave();
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const visible = shapes.filter((shape) => shape.getBoundingClientRect().width);
    if (visible.length) go(visible.includes(current) ? neighbour(current, visible, dx, dy) : visible[0]);
  });
}

function neighbour(current, shapes, dx, dy) {
  const centre = (shape) => {
    const box = shape.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const row = shapes.filter((shape) => shape.parentNode === current.parentNode);
  if (dx && row.length > 1) return row[row.indexOf(current) + dx] ?? current;
  const [x, y] = centre(current);
  const ranked = shapes
    .filter((shape) => shape !== current)
    .map((shape) => [shape, ...centre(shape)])
    .filter(([, u, v]) => (dx ? (u - x) * dx : (v - y) * dy) > 0 || (dy && u === x && v === y))
    .map(([shape, u, v]) => [Math.abs(u - x) * (dy ? 10 : 1) + Math.abs(v - y) * (dx ? 10 : 1), shape])
    .sort(([a], [b]) => a - b);
  return ranked[0]?.[1] ?? current;
}

// Legends: a model that is hidden in one figure is hidden in all.

function addToggle(item) {
  const model = item.dataset.model;
  const made = make("button", { type: "button", "aria-pressed": "true" });
  made.append(...item.childNodes);
  item.append(made);
  made.addEventListener("click", () => {
    const shown = made.getAttribute("aria-pressed") === "false";
    for (const other of document.querySelectorAll(`li[data-model="${model}"] > button`)) other.setAttribute("aria-pressed", shown);
    for (const part of document.querySelectorAll(`.plot [data-model="${model}"]`)) part.style.display = shown ? "" : "none";
  });
}

// Tables: sorting by a column, and downloads as Markdown and LaTeX.

function value(row, column) {
  const cell = row.cells[column];
  const text = (cell.querySelector("span")?.firstChild ?? cell).textContent.trim();
  const match = text.replace(/\u2212/g, "-").replace(/,(?=\d{3})/g, "").match(/-?\d+(\.\d+)?(\/\d+)?/);
  if (cell.tagName === "TH" && !/^[-\u2212\d]/.test(text)) return text;
  if (!match) return text === "\u2013" ? Infinity : text;
  const [over, under = 1] = match[0].split("/").map(Number);
  return over / under;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a - b;
  return typeof a === typeof b ? a.localeCompare(b) : typeof a === "number" ? -1 : 1;
}

function addSorting(table) {
  if (table.tBodies[0].rows.length < 2) return;
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const made = make("button", { type: "button" });
    made.append(...header.childNodes);
    header.append(made);
    made.addEventListener("click", () => {
      const way = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) => (b === Infinity || a === Infinity ? compare(a, b) : way * compare(a, b)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

function cells(table) {
  const text = (cell) => {
    const small = cell.querySelector("small")?.textContent.trim();
    const main = cell.textContent.trim();
    return small ? `${main.slice(0, -small.length).trim()} (${small})` : main;
  };
  return [...table.rows].map((row) => [...row.cells].map((cell) => text(cell).replace(/\s+/g, " ")));
}

function markdown(table) {
  const [header, ...rows] = cells(table).map((row) => `| ${row.map((cell) => cell.replace(/[\\|`*_<>[\]$]/g, "\\$&")).join(" | ")} |`);
  const rule = `|${[...table.rows[0].cells].map((_, column) => (column ? "---:" : "---")).join("|")}|`;
  return [header, rule, ...rows, ""].join("\n");
}

const TEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\u2212": "$-$", "\u2013": "--",
  "\u25b2": "$\\blacktriangle$", "\u25bc": "$\\blacktriangledown$", "\u00b1": "$\\pm$", "<": "$<$", ">": "$>$" };

function latex(table) {
  const rows = cells(table).map((row) => `${row.map((cell) => cell.replace(/[\\~^\u2212\u2013\u25b2\u25bc\u00b1<>]|[&%$#_{}]/g, (c) => TEX[c] ?? `\\${c}`)).join(" & ")} \\\\`);
  const columns = "l" + "r".repeat(table.rows[0].cells.length - 1);
  return [`% needs the packages booktabs and amssymb`, `\\begin{tabular}{${columns}}`, "\\toprule", rows[0], "\\midrule",
    ...rows.slice(1), "\\bottomrule", "\\end{tabular}", ""].join("\n");
}

function addTableTools(scroll) {
  const table = scroll.querySelector("table");
  const name = table.caption.textContent.trim();
  const tools = make("p", { class: "tools" });
  tools.append(
    button("Markdown", `Download as Markdown: ${name}`, () => save(markdown(table), fileName(name, "md"), "md")),
    button("LaTeX", `Download as LaTeX: ${name}`, () => save(latex(table), fileName(name, "tex"), "tex")),
  );
  scroll.after(tools);
}

// Figures: downloads in the colours of light screens.

function svgText(svg) {
  const copy = svg.cloneNode(true);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  for (const shape of copy.querySelectorAll(".at")) shape.removeAttribute("class");
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, size] of [["width", width], ["height", height], ["fill", "#ffffff"]]) paper.setAttribute(key, size);
  copy.prepend(paper);
  return new XMLSerializer().serializeToString(copy).replace(/var\(--[\w-]+,(#[0-9a-f]{6})\)/g, "$1");
}

function savePng(svg, name) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const scale = 1920 / width;
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: 1920, height: Math.round(height * scale) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((content) => save(content, fileName(name, "png"), "png"));
  };
  image.src = `data:image/svg+xml,${encodeURIComponent(svgText(svg))}`;
}

function addFigureTools(figure) {
  const svg = figure.querySelector(".plot > svg");
  if (!svg) return;
  const name = figure.dataset.name ?? svg.getAttribute("aria-label");
  const tools = make("p", { class: "tools" });
  tools.append(
    button("SVG", `Download as SVG: ${name}`, () => save(svgText(svg), fileName(name, "svg"), "svg")),
    button("PNG", `Download as PNG: ${name}`, () => savePng(svg, name)),
  );
  figure.append(tools);
}

// Folded parts: all at once, and the one that a link names.

function addFolding(nav) {
  const folds = [...document.querySelectorAll("details.fold")];
  if (!folds.length) return;
  const tools = make("p", { class: "tools" });
  tools.append(button("Unfold all", "Unfold all", (made) => {
    const open = made.textContent === "Unfold all";
    for (const fold of folds) fold.open = open;
    made.textContent = open ? "Fold all" : "Unfold all";
    made.ariaLabel = made.textContent;
  }));
  nav.append(tools);
}

document.body.append(tip);
document.querySelectorAll(".plot").forEach(addTips);
document.querySelectorAll(".legend li[data-model]").forEach(addToggle);
document.querySelectorAll(".scroll").forEach(addTableTools);
document.querySelectorAll(".scroll > table").forEach(addSorting);
document.querySelectorAll("figure").forEach(addFigureTools);
document.querySelectorAll("nav").forEach(addFolding);
