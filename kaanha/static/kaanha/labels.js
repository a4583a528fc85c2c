// Names for the boxes in which one types to choose: Select2 makes them without a label.
"use strict";
{
  const label = (box) => {
    if (box.hasAttribute("aria-label")) return;
    const select = box.closest(".select2-container")?.previousElementSibling;
    const words = select?.id && document.querySelector(`label[for="${select.id}"]`);
    box.setAttribute("aria-label", words ? words.textContent.replace("*", "").trim() : "Search");
  };
  const labelAll = () => document.querySelectorAll(".select2-search__field").forEach(label);
  // Select2 begins when the page is loaded, too, and makes its box anew with each choice.
  window.addEventListener("load", () => {
    labelAll();
    new MutationObserver(labelAll).observe(document.body, { childList: true, subtree: true });
  });
}
