// The palette opens its first result on Enter, where none was chosen with the arrows.
"use strict";
document.addEventListener(
  "keydown",
  (event) => {
    if (event.key !== "Enter" || event.target.id !== "search-input-command") return;
    const first = document.querySelector("#command-results-list a");
    if (!first || document.querySelector("#command-results-list li.active")) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.metaKey || event.ctrlKey) window.open(first.href, "_blank");
    else window.location = first.href;
  },
  true, // before the theme's own, which expects one that was chosen
);

// Closed by Escape it gives the focus back to what had it.
let held = null;
document.addEventListener("focusin", (event) => {
  if (event.target.id === "search-input-command" && event.relatedTarget) held = event.relatedTarget;
});
document.addEventListener("keydown", (event) => {
  const input = event.target;
  if (event.key !== "Escape" || input.id !== "search-input-command") return;
  // Once the theme has hidden it; the first Escape only empties it.
  setTimeout(() => {
    if (!input.offsetParent && held) held.focus();
  }, 50);
});
