// Select2 tells only jQuery of a choice: everybody else hears of it here.
"use strict";
window.addEventListener("load", () => {
  const jquery = window.django?.jQuery;
  if (!jquery) return;
  jquery(document).on("change", "select.select2-hidden-accessible", (event) => {
    if (!event.originalEvent) event.target.dispatchEvent(new Event("change", { bubbles: true }));
  });
});
