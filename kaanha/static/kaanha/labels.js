// Names for the boxes in which one types to choose: Select2 makes them without a label.
"use strict";
function name(box) {
  if (box.hasAttribute("aria-label")) return;
  const select = box.closest(".select2-container")?.previousElementSibling;
  const label = select?.id && document.querySelector(`label[for="${select.id}"]`);
  box.setAttribute("aria-label", label ? label.textContent.replace("*", "").trim() : "Search");
}
window.addEventListener("load", () => document.querySelectorAll(".select2-search__field").forEach(name));
document.addEventListener("focusin", (event) => {
  if (event.target.matches(".select2-search__field")) name(event.target);
});
