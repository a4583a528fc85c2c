// Rows of inputs: one more, empty, whenever it is asked for.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-add-row]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const rows = button.closest("[data-rows]").querySelectorAll("[data-row]");
      const row = rows[rows.length - 1].cloneNode(true);
      for (const input of row.querySelectorAll("input")) {
        input.value = "";
        input.removeAttribute("id");
        input.setAttribute("aria-label", input.getAttribute("aria-label").replace(/\d+$/, rows.length + 1));
      }
      button.before(row);
      row.querySelector("input").focus();
    });
  }
});
