"use strict";
const all = (selector) => [...document.querySelectorAll(selector)];
const box = (id) => document.getElementById(id);
const rows = all(".fields tbody tr");
const svg = document.querySelector("svg");
const status = box("status");
let selected = null;

function isConfident(row) {
  return "predicted" in row.dataset && Number(row.dataset.confidence ?? 1) >= Number(box("confidence").value);
}

function show() {
  const gold = box("gold").checked, predicted = box("predicted").checked, only = box("differences").checked;
  box("from").textContent = Number(box("confidence").value).toFixed(2);
  for (const row of rows) {
    const group = document.querySelector(`.finding[data-finding="${row.dataset.finding}"]`);
    const isRight = row.classList.contains("right");
    const isHidden = only && (isRight || row.classList.contains("not_judged"));
    const showsPredicted = predicted && isConfident(row) && !isHidden;
    const showsGold = gold && "gold" in row.dataset && !isHidden;
    for (const part of group.querySelectorAll(".predicted")) part.toggleAttribute("hidden", !showsPredicted);
    // the two boxes of a right field are the same
    for (const part of group.querySelectorAll(".gold")) part.toggleAttribute("hidden", !showsGold || (isRight && showsPredicted));
    row.hidden = !showsPredicted && !showsGold;
  }
  for (const row of all(".tokens tbody tr")) row.hidden = only && !row.classList.contains("differs");
  if (selected === null) status.textContent = counts();
}

function counts() {
  const predicted = rows.filter((row) => "predicted" in row.dataset), shown = predicted.filter(isConfident);
  const wrong = shown.filter((row) => !row.matches(".right, .not_judged")).length;
  const judged = box("gold").disabled ? "" : `, ${wrong} of them wrong`;
  return `${shown.length} of ${predicted.length} predicted fields have this confidence${judged}`;
}

const wordsOf = (element) => element.dataset.words?.split(" ") ?? [element.dataset.word];

// the element and all that shows the same words: "on" what is selected, "near" what is pointed at
function highlight(element, name) {
  for (const each of all(`.${name}`)) each.classList.remove(name);
  if (element === null) return;
  const parts = wordsOf(element).flatMap((word) => all(`[data-word="${word}"]`));
  if (element.dataset.finding) parts.push(...all(`[data-finding="${element.dataset.finding}"]`));
  for (const part of parts) part.classList.add(name);
}

function select(element, moves) {
  highlight(element, "on");
  selected = element;
  if (element === null) return show();
  const row = element.matches("tr") ? element : document.querySelector(`tr[data-word="${element.dataset.word}"]`);
  status.textContent = [...row.cells].map((cell) => cell.innerText.trim()).filter(Boolean).join(" · ");
  if (!moves) return;
  const isWide = matchMedia("(min-width: 900px)").matches;
  if (isWide || element.closest("#picture")) row.scrollIntoView({block: "nearest"});
  if (!element.closest("#picture")) document.querySelector(`.word[data-word="${wordsOf(element)[0]}"]`).scrollIntoView({block: "center"});
}

function step(by, candidates) {
  if (!candidates.length) return;
  const place = candidates.indexOf(selected);
  const next = place < 0 ? (by > 0 ? 0 : candidates.length - 1) : (place + by + candidates.length) % candidates.length;
  select(candidates[next], true);
}

function toggle(id) {
  if (!box(id).disabled) box(id).checked = !box(id).checked;
  show();
}

function slide(by) {
  if (box("confidence").disabled) return;
  box("confidence").value = Number(box("confidence").value) + by;
  show();
}

const shownRows = () => rows.filter((row) => !row.hidden);
const keys = {
  p: () => toggle("predicted"),
  g: () => toggle("gold"),
  d: () => toggle("differences"),
  ArrowLeft: () => slide(-0.01),
  ArrowRight: () => slide(0.01),
  j: () => step(1, shownRows()),
  k: () => step(-1, shownRows()),
  e: () => step(1, shownRows().filter((row) => !row.matches(".right, .not_judged"))),
  z: resize,
  u: () => box("index")?.click(),
  Escape: () => select(null),
};

function resize() {
  box("picture").classList.toggle("whole");
  scale();
}

// letters keep their size on the screen, whatever the size of the drawing, and stay inside it
function scale() {
  const {width, height} = svg.viewBox.baseVal, size = 12 * width / svg.getBoundingClientRect().width;
  if (!Number.isFinite(size)) return;
  for (const text of all(".finding text")) {
    text.dataset.x ??= text.getAttribute("x");
    text.dataset.y ??= text.getAttribute("y");
    text.setAttribute("font-size", size);
    text.setAttribute("x", Math.max(Math.min(text.dataset.x, width - text.getComputedTextLength() - size / 4), 0));
    text.setAttribute("y", Math.max(Math.min(text.dataset.y, height - 1.3 * size), 1.3 * size));
  }
}

for (const id of ["gold", "predicted", "differences", "confidence"]) box(id).addEventListener("input", show);
for (const part of all("[data-word], tr[data-finding]")) {
  part.addEventListener("click", () => select(part, true));
  part.addEventListener("focus", () => select(part, false));
  part.addEventListener("mouseenter", () => highlight(part, "near"));
  part.addEventListener("mouseleave", () => highlight(null, "near"));
}
document.addEventListener("keydown", (event) => {
  const isSlider = event.target === box("confidence") && event.key.startsWith("Arrow");
  if (event.ctrlKey || event.metaKey || event.altKey || isSlider || !Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
});
box("size").addEventListener("click", resize);
window.addEventListener("resize", scale);
if (location.hash === "#differences-only" && !box("differences").disabled) box("differences").checked = true;
scale();
show();
