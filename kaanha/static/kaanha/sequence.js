// The steps of a sequence: a step's form opens in its card, edits keep the page, and the focus goes where one works.
// Without this script each form is a page of its own and each edit loads the page again.
"use strict";
(() => {
  const FIELDS = "input:not([type=hidden]), select, textarea";
  const DROP = "What you typed into the open step isn't saved. Leave it?";
  let opener = null; // what opened the form, and gets the focus back
  let scrolled = 0; // how far the picture is scrolled sideways, while it is replaced

  const form = () => document.querySelector(".k-editor form");
  const canvas = () => document.getElementById("canvas");
  const shown = (element) => element.getClientRects().length > 0;

  function close() {
    if (!form()) return true;
    if (form().dataset.typed && !window.confirm(DROP)) return false;
    form().closest(".k-editor").replaceChildren();
    return true;
  }

  function enter() {
    const wrong = form().querySelector(`.k-invalid :is(${FIELDS})`);
    const fields = [...form().querySelectorAll(FIELDS)].filter(shown);
    (wrong ?? fields.find((field) => field.type !== "radio" || field.checked) ?? form()).focus();
    form().scrollIntoView({ block: "nearest", inline: "center" });
    form().dataset.entered = "1";
  }

  function goTo(id) {
    const step = id && document.getElementById(id);
    if (step) step.focus();
    return Boolean(step);
  }

  function leave() {
    const menu = opener?.closest("details");
    if (close()) (menu?.querySelector("summary") ?? opener)?.focus();
  }

  function center() {
    if (canvas()) canvas().scrollLeft = (canvas().scrollWidth - canvas().clientWidth) / 2;
  }

  document.addEventListener("submit", (event) => {
    if (event.target.id !== "acts") return;
    event.preventDefault();
    if (!close()) return;
    const values = { act: event.submitter.value, csrfmiddlewaretoken: event.target.csrfmiddlewaretoken.value };
    htmx.ajax("POST", event.target.action, { target: "#builder", swap: "outerHTML", values });
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-close], [data-step]");
    if (!link) return;
    event.preventDefault();
    if ("close" in link.dataset) leave();
    else goTo(link.hash.slice(1));
  });

  document.addEventListener("input", (event) => {
    const typed = event.target.closest(".k-editor form");
    if (typed) typed.dataset.typed = "1";
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = event.target.closest?.("details.k-menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else if (form() && (event.target === document.body || event.target.closest("#builder"))) leave();
  });

  document.addEventListener(
    "toggle",
    (event) => {
      if (!event.target.matches("details.k-menu[open]")) return;
      for (const other of document.querySelectorAll("details.k-menu[open]")) if (other !== event.target) other.open = false;
    },
    true,
  );

  document.addEventListener("htmx:beforeRequest", (event) => {
    const link = event.detail.elt;
    const opens = "opens" in link.dataset;
    if (!opens && link.getAttribute("hx-target") !== "#builder") return;
    if (!close()) event.preventDefault();
    else if (opens) opener = link;
  });

  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.responseURL.includes("/login/")) location.reload(); // signed out meanwhile
    scrolled = canvas()?.scrollLeft ?? 0;
  });

  document.addEventListener("htmx:afterSwap", () => {
    if (canvas()) canvas().scrollLeft = scrolled;
  });

  document.addEventListener("htmx:afterSettle", (event) => {
    if (form() && !form().dataset.entered) {
      const menu = opener?.closest("details.k-menu");
      if (menu) menu.open = false;
      enter();
    }
    const builder = document.getElementById("builder");
    const wanted = builder?.dataset.focus ?? event.detail.requestConfig?.elt?.dataset.back;
    if (builder) delete builder.dataset.focus;
    if (wanted) goTo(wanted) || canvas().focus();
  });

  // What goes wrong with an edit is told; the numbers that come every few seconds just come later.
  for (const failure of ["htmx:responseError", "htmx:sendError"]) {
    document.addEventListener(failure, (event) => {
      const told = document.getElementById("failed");
      if (!told || "quiet" in event.detail.elt.dataset) return;
      told.hidden = false;
      told.focus();
    });
  }

  window.addEventListener("beforeunload", (event) => {
    if (form()?.dataset.typed) event.preventDefault();
  });

  window.addEventListener("load", () => {
    center();
    if (location.hash.startsWith("#step-")) goTo(decodeURIComponent(location.hash.slice(1)));
  });
})();
