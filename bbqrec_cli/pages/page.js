"use strict";
// Tables of three rows and more sort by a button at each column's head; a hint says where a table goes on to the right.
for (const wide of document.querySelectorAll(".wide")) {
  const table = wide.querySelector("table"), body = table.tBodies[0], hint = wide.previousElementSibling;
  const said = () => hint.classList.toggle("shown", wide.scrollWidth > wide.clientWidth + 1);
  new ResizeObserver(said).observe(wide);
  said();
  if (body.rows.length < 3) continue;
  const first = [...body.rows];
  const text = (row, column) => (row.cells[column].firstChild?.textContent ?? "").trim();
  const number = (shown) => parseFloat(shown.replace(/,/g, "").replace(/^[^\d.-]*/, ""));
  const whole = /^-?((\d{1,3}(,\d{3})+|\d+)(\.\d+)?|\.\d+)(e[-+]?\d+)?$/;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.setAttribute("aria-label", `Sort by ${head.textContent}`);
    head.append(button);
    button.addEventListener("click", () => {
      const named = head.classList.contains("words");
      const words = named && !first.every((row) => whole.test(text(row, column)));
      const order = { "": named ? "ascending" : "descending", ascending: named ? "descending" : "", descending: named ? "" : "ascending" };
      const next = order[head.getAttribute("aria-sort") ?? ""];
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const by = (one, other) => {
        const [a, b] = [text(one, column), text(other, column)];
        if (words) return sign * a.localeCompare(b, undefined, { numeric: true });
        const [x, y] = [number(a), number(b)];
        return isNaN(x) - isNaN(y) || sign * (x - y) || 0;  // what is no number comes last
      };
      body.append(...(next ? [...first].sort(by) : first));
    });
  });
}
