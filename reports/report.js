"use strict";
/* What a reader can do with the page: show some activations and operating points only, and read a mark's numbers by
   pointing at it or by stepping through a chart with the arrow keys. Without this script everything is shown. */
(() => {
  const tip = document.getElementById("tip");
  const filter = document.getElementById("filter");
  const hidden = { series: new Set(), point: new Set() };

  const isHidden = (element) =>
    ["series", "point"].some((kind) => element.dataset[kind] !== undefined && hidden[kind].has(element.dataset[kind]));

  const apply = () => {
    for (const element of document.querySelectorAll("[data-series], [data-point]")) {
      element.classList.toggle("off", isHidden(element));
    }
    conceal();
  };

  const show = (mark) => {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const at = mark.getBoundingClientRect();
    const x = Math.min(Math.max(at.x + at.width / 2, tip.offsetWidth / 2 + 8), innerWidth - tip.offsetWidth / 2 - 8);
    const above = at.y - tip.offsetHeight - 8;
    tip.style.left = `${x + scrollX}px`;
    tip.style.top = `${(above > 0 ? above : at.bottom + 8) + scrollY}px`;
  };

  const conceal = () => { tip.hidden = true; };

  for (const chart of document.querySelectorAll(".chart")) {
    const marks = () =>
      [...chart.querySelectorAll("[data-tip]")].filter((mark) => !mark.classList.contains("off"));
    let now = -1;
    if (!chart.querySelector("[data-tip]")) continue;
    chart.tabIndex = 0;
    chart.role = "group";
    chart.ariaLabel = `${chart.querySelector("svg").ariaLabel}: the left and right arrow keys tell its numbers`;
    chart.addEventListener("pointerover", (event) => {
      const mark = event.target.closest("[data-tip]");
      if (mark) show(mark); else conceal();
    });
    chart.addEventListener("pointerleave", conceal);
    chart.addEventListener("blur", conceal);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") conceal();
      const all = marks();
      if (!step || !all.length) return;
      event.preventDefault();
      now = (now + step + all.length) % all.length;
      show(all[now]);
    });
  }

  if (filter) {
    filter.hidden = false;
    filter.addEventListener("change", (event) => {
      const { name, value, checked } = event.target;
      if (checked) hidden[name].delete(value); else hidden[name].add(value);
      apply();
    });
    filter.addEventListener("reset", () => {
      hidden.series.clear();
      hidden.point.clear();
      apply();
    });
  }
})();
