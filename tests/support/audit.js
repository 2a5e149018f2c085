const problems = [];
const seen = (element) => element.getClientRects().length > 0 && getComputedStyle(element).visibility !== "hidden";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const told = (element) => element.outerHTML.slice(0, 120);

// Structure.
if (!document.documentElement.lang) problems.push("the page names no language");
if (!document.title.trim()) problems.push("the page has no title");
for (const [selector, what] of [["main", "main"], ["h1", "first heading"], ["body > header", "header"]]) {
  if (all(selector).length !== 1) problems.push(`there must be one ${what}, not ${all(selector).length}`);
}
let level = 0;
for (const heading of all("h1, h2, h3, h4")) {
  const next = Number(heading.tagName[1]);
  if (next > level + 1) problems.push(`a heading skips a level: ${told(heading)}`);
  level = next;
}
const ids = all("[id]").map((element) => element.id);
for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) problems.push(`the id ${id} is not unique`);
for (const element of all("[aria-labelledby]")) {
  if (!document.getElementById(element.getAttribute("aria-labelledby"))) problems.push(`names nothing: ${told(element)}`);
}
if (all("[style]").length) problems.push("an element has a style attribute, which the policy forbids");

// Names.
for (const element of all("a, button, summary")) if (!element.textContent.trim()) problems.push(`has no name: ${told(element)}`);
for (const input of all("input:not([type=hidden], [hidden]), select, textarea")) {
  if (!input.labels || !input.labels.length) problems.push(`has no label: ${told(input)}`);
}
for (const graphic of all("svg")) {
  const isNamed = graphic.getAttribute("role") === "img" && graphic.getAttribute("aria-label");
  if (!isNamed && graphic.getAttribute("aria-hidden") !== "true") problems.push(`neither named nor hidden: ${told(graphic)}`);
}
for (const table of all("table")) {
  const columns = all("thead th[scope=col]", table);
  if (!columns.length || columns.some((column) => !column.textContent.trim())) problems.push(`columns without names: ${told(table)}`);
  for (const row of all("tbody tr", table)) {
    if (row.getAttribute("role") !== "row") problems.push(`loses its role when it is laid out for a telephone: ${told(row)}`);
  }
}
if (all("[tabindex]").some((element) => Number(element.getAttribute("tabindex")) > 0)) problems.push("the order of the focus is not that of the page");

// Contrast of all text that is seen: https://www.w3.org/TR/WCAG22/#contrast-minimum
const known_channels = new Map();
const channels = (colour) => {
  if (!known_channels.has(colour)) known_channels.set(colour, channels_of(colour));
  return known_channels.get(colour);
};
const channels_of = (colour) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
  return { r, g, b, a: a / 255 };
};
const over = (top, below) => ({
  r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a), b: top.b * top.a + below.b * (1 - top.a), a: 1,
});
const ground = (element) => {
  if (!element) return { r: 255, g: 255, b: 255, a: 1 };
  const own = channels(getComputedStyle(element).backgroundColor);
  return own.a === 1 ? own : over(own, ground(element.parentElement));
};
const luminance = ({ r, g, b }) => {
  const [x, y, z] = [r, g, b].map((value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const known = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.nodeValue.trim() || ["SCRIPT", "STYLE", "TITLE", "NOSCRIPT"].includes(element.tagName.toUpperCase()) || !seen(element)) continue;
  const style = getComputedStyle(element);
  const below = ground(element);
  const key = `${style.color} ${JSON.stringify(below)}`;
  if (!known.has(key)) {
    const [light, dark] = [luminance(over(channels(style.color), below)), luminance(below)].sort((a, b) => b - a);
    known.set(key, (light + 0.05) / (dark + 0.05));
  }
  const size = parseFloat(style.fontSize);
  const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  if (known.get(key) < least) problems.push(`a contrast of ${known.get(key).toFixed(2)}: ${told(element)}`);
}
if (known.size < 3) problems.push("hardly any text was found");

// Room.
if (document.documentElement.scrollWidth > document.documentElement.clientWidth) problems.push("the page is wider than the screen");
for (const target of all("a.button, button")) {
  if (seen(target) && target.getBoundingClientRect().height < 24) problems.push(`too small to hit: ${told(target)}`);
}
return problems;
