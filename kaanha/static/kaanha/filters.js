// The filters of a list open with the focus in them: they stand behind its rows, far from their button.
"use strict";
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-filters]")) return;
  const filters = document.getElementById("changelist-filter");
  filters.tabIndex = -1;
  setTimeout(() => filters.focus()); // once Alpine has shown them
});
