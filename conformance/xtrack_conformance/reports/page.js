"use strict";
// The page is whole without this: it finds and copies, no more.
const find = document.getElementById("find");
const entries = [...document.querySelectorAll("[data-find]")].map((node) => [node, node.textContent.toLowerCase()]);
const folds = [...document.querySelectorAll("details.fold-in")].map((node) => [node, node.open]);
let timer;
find.hidden = false;
find.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [node, text] of entries) {
      node.classList.toggle("none", !words.every((word) => text.includes(word)));
    }
    for (const [node, open] of folds) {
      const held = node.querySelectorAll("[data-find]").length;
      const left = node.querySelectorAll("[data-find]:not(.none)").length;
      node.classList.toggle("none", held > 0 && left === 0);
      node.open = words.length ? left > 0 : open;
    }
  }, 120);
});
for (const box of document.querySelectorAll(".replay")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    const line = box.querySelector("pre");
    try {
      await navigator.clipboard.writeText(line.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(line);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  box.append(button);
}
const open = () => {
  const node = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let up = node; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
  if (node) node.scrollIntoView();
};
addEventListener("hashchange", open);
if (location.hash) open();
