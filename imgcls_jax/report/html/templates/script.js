"use strict";
(() => {
  // ---- tables that are sorted by a click on a heading

  const valueOf = (cell) => {
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return cell.dataset.value !== undefined || !Number.isNaN(number) ? number : text;
  };

  const sort = (table, heading) => {
    const place = [...heading.parentNode.children].indexOf(heading);
    const ascending = heading.getAttribute("aria-sort") === "none" ? !heading.classList.contains("number")
      : heading.getAttribute("aria-sort") === "descending";
    for (const other of heading.parentNode.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [valueOf(row.cells[place]), row]);
    rows.sort(([a], [b]) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)))
      * (ascending ? 1 : -1));
    body.append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const heading of table.querySelectorAll("thead [aria-sort]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, heading));
    }
  }

  // ---- small images are shown pixel by pixel, large ones smoothly

  const soften = (image) => {
    const done = () => { if (Math.max(image.naturalWidth, image.naturalHeight) >= 64) image.classList.add("large"); };
    if (image.complete) done(); else image.addEventListener("load", done);
  };
  document.querySelectorAll("img").forEach(soften);

  // ---- confusion matrices

  const percent = (share) => `${share >= 0.001 ? (100 * share).toFixed(1) : (100 * share).toPrecision(1)} %`;

  const card = (names, [source, file, own, other], [row, column]) => {
    const item = document.createElement("li");
    item.className = "card";
    const image = document.createElement("img");
    image.src = source;
    image.alt = `Image of class ${names[row]}, predicted ${names[column]}`;
    soften(image);
    const line = document.createElement("p");
    const shares = document.createElement("span");
    shares.textContent = row === column ? percent(own) : `${percent(own)} → ${percent(other)}`;
    const name = document.createElement("span");
    name.className = "file";
    name.textContent = file;
    line.append(shares, document.createElement("br"), name);
    item.append(image, line);
    return item;
  };

  for (const matrix of document.querySelectorAll("table.matrix")) {
    const data = JSON.parse(document.getElementById(matrix.dataset.images).textContent);
    const gallery = document.getElementById(matrix.dataset.gallery);
    const title = gallery.querySelector(".title");
    const grid = [...matrix.tBodies[0].rows].map((row) => [...row.querySelectorAll("td")]);
    if (!grid.length) continue;
    let current = grid[0][0];
    current.tabIndex = 0;

    const go = (cell) => {
      current.tabIndex = -1;
      current = cell;
      cell.tabIndex = 0;
      cell.focus();
    };

    const show = (cell) => {
      const key = cell.dataset.cell;
      if (key === undefined) return;
      for (const other of matrix.querySelectorAll("[aria-selected]")) other.removeAttribute("aria-selected");
      cell.setAttribute("aria-selected", "true");
      current.tabIndex = -1;
      current = cell;
      cell.tabIndex = 0;
      const chosen = data.cells[key];
      const pair = key.split(",").map(Number);
      const count = parseInt(cell.textContent, 10);
      title.textContent = `${data.names[pair[0]]} predicted ${data.names[pair[1]]}: `
        + (chosen.length < count ? `${chosen.length} of ${count} images` : `${count} image${count === 1 ? "" : "s"}`);
      gallery.querySelector("ol").replaceChildren(...chosen.map((number) => card(data.names, data.images[number], pair)));
      gallery.hidden = false;
      gallery.scrollTop = 0;
      title.focus({ preventScroll: true });
      gallery.scrollIntoView({ block: "nearest" });
    };

    matrix.addEventListener("click", (event) => {
      const cell = event.target.closest("[data-cell]");
      if (cell) show(cell);
    });
    matrix.addEventListener("keydown", (event) => {
      const row = grid.findIndex((cells) => cells.includes(event.target));
      if (row < 0) return;
      const column = grid[row].indexOf(event.target);
      const last = grid[row].length - 1;
      const target = {
        ArrowLeft: [row, Math.max(0, column - 1)],
        ArrowRight: [row, Math.min(last, column + 1)],
        ArrowUp: [Math.max(0, row - 1), column],
        ArrowDown: [Math.min(grid.length - 1, row + 1), column],
        Home: [event.ctrlKey ? 0 : row, 0],
        End: [event.ctrlKey ? grid.length - 1 : row, last],
      }[event.key];
      if (target) {
        event.preventDefault();
        go(grid[target[0]][target[1]]);
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        show(event.target);
      }
    });
    gallery.addEventListener("keydown", (event) => {
      if (event.key === "Escape") current.focus();
    });
    const section = matrix.closest("section");
    for (const button of section.querySelectorAll("button.show")) {
      button.addEventListener("click", () => {
        show(matrix.querySelector(`[data-cell="${button.dataset.cell}"]`));
      });
    }
  }

  // ---- a print has everything that can be opened

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();
