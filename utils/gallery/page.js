
/* The page. Its address names what is shown: #class=3, #cell=3,5, or anything else for all classes. */

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const crops = JSON.parse(document.getElementById("crops").textContent);
  const byId = (id) => document.getElementById(id);
  const background = data.names.length;
  const nameOf = (id) => id === background ? "background" : data.names[id];
  const PAGE = 24; // crops of a group before "show more"
  const MANY = 30; // classes; with more the cells have room for colors only
  const SECTIONS = [
    ["false", "False positives"], ["missed", "Misses"], ["confused", "Confusions"],
    ["ignored", "In ignored regions"], ["correct", "Correct"],
  ];
  const SORTS = {
    worst: ["worst first", (crop) => crop.order],
    score: ["score", (crop) => crop.score],
    iou: ["IoU", (crop) => crop.iou],
    size: ["size", (crop) => crop.size[0] * crop.size[1]],
    class: ["class", (crop) => crop.column === background ? crop.row : crop.column],
    image: ["image", (crop) => crop.path],
  };
  const state = { sort: "worst", descending: false, sections: new Set(["false", "missed", "confused"]), shown: {}, visible: [] };
  const sectionOf = (crop) => data.kinds[crop.kind].section;

  /* The order of "worst first", as the crops were chosen. */
  const worstKey = (crop) => {
    const area = crop.size[0] * crop.size[1];
    if (sectionOf(crop) === "correct") return [crop.score, crop.iou];
    return sectionOf(crop) === "missed" ? [-area, crop.score] : [-crop.score, -area];
  };
  crops.map((crop) => [worstKey(crop), crop])
    .sort(([one], [other]) => one[0] - other[0] || one[1] - other[1])
    .forEach(([, crop], order) => { crop.order = order; });

  /* What is chosen. */
  function choice() {
    const [, kind, numbers] = /^#(class|cell)=([\d,]+)$/.exec(location.hash) || [];
    const [row, column] = (numbers || "").split(",").map(Number);
    if (kind === "cell" && row <= background && column <= background) return { kind, row, column };
    if (kind === "class" && row < background) return { kind, id: row };
    return { kind: "all" };
  }
  function belongs(chosen, row, column) {
    if (chosen.kind === "cell") return row === chosen.row && column === chosen.column;
    return chosen.kind === "all" || row === chosen.id || column === chosen.id;
  }
  function choose(hash) { location.hash = hash; }

  /* Texts about a case. */
  function describe(crop) {
    const row = named(nameOf(crop.row)), column = named(nameOf(crop.column));
    const other = crop.other === null ? "" : named(nameOf(crop.other));
    switch (data.kinds[crop.kind].name) {
      case "confusion": return [row, ", is ", column];
      case "correct": return [row];
      case "duplicate": return [row, ", duplicate on ", other];
      case "poor_location": return [row, ", poorly located"];
      case "ignored": return [row, ", in an ignored region"];
      case "background": return [row, ", on background"];
      case "low_score": return [column, " missed, score too low"];
      case "poor_box": return [column, " missed, box poorly located"];
      default: return [column, " missed"];
    }
  }
  const plain = (parts) => parts.map((part) => typeof part === "string" ? part : isolated(part.textContent)).join("");
  function figures(crop) {
    const parts = [];
    if (crop.found) parts.push(`score ${crop.score.toFixed(2)}`);
    if (crop.found && crop.labelled) parts.push(`${data.kinds[crop.kind].name === "ignored" ? "inside" : "IoU"} ${crop.iou.toFixed(2)}`);
    parts.push(`${crop.size.map((side) => Math.round(side)).join("×")} px`);
    return parts.join(" · ");
  }

  /* A crop with its boxes over it, as large as its frame. */
  function frame(crop) {
    const [width, height] = crop.window;
    const inner = make("span", { class: "crop" });
    inner.style.width = `${Math.min(width / height, 1) * 100}%`;
    inner.style.height = `${Math.min(height / width, 1) * 100}%`;
    if (crop.jpeg) {
      const alt = `${plain(describe(crop))}; ${figures(crop)}; ${isolated(crop.name)}`;
      inner.append(make("img", { src: `data:image/jpeg;base64,${crop.jpeg}`, alt, decoding: "async" }));
    } else {
      inner.append(make("span", { class: "gone" }, "The image could not be read any more."));
    }
    for (const kind of ["labelled", "found"]) {
      if (!crop[kind]) continue;
      const box = make("i", { class: kind });
      const [left, top, right, bottom] = crop[kind];
      Object.assign(box.style, { left: `${left * 100}%`, top: `${top * 100}%`, width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%` });
      inner.append(box);
    }
    return make("span", { class: "frame" }, inner);
  }
  function tile(crop) {
    const button = make("button", { type: "button", class: "tile", title: isolated(crop.path) }, frame(crop),
      make("span", { class: "what" }, ...describe(crop)), make("span", {}, figures(crop)),
      make("span", { class: "file" }, named(crop.name)));
    button.addEventListener("click", () => openDetail(crop));
    return make("li", {}, button);
  }

  /* One group of crops under a heading with its counts. */
  function sorted(list) {
    const key = SORTS[state.sort][1], sign = state.descending ? -1 : 1;
    return [...list].sort((one, other) => {
      const a = key(one), b = key(other);
      return sign * (a < b ? -1 : a > b ? 1 : 0) || one.order - other.order;
    });
  }
  function group(id, title, list, total) {
    const ordered = sorted(list);
    state.visible.push(...ordered);
    const tiles = make("ul", { class: "tiles" });
    const more = make("button", { type: "button" });
    const extend = (end) => {
      const start = tiles.children.length;
      tiles.append(...ordered.slice(start, end).map(tile));
      state.shown[id] = end;
      more.hidden = end >= ordered.length;
      more.textContent = `Show ${grouped(Math.min(PAGE, ordered.length - end))} more of ${grouped(ordered.length)}`;
      return tiles.children[start];
    };
    more.addEventListener("click", () => extend(tiles.children.length + PAGE)?.firstChild.focus());
    extend(state.shown[id] || PAGE);
    const counts = ordered.length === total ? grouped(total) : `${grouped(ordered.length)} of ${grouped(total)}, the worst`;
    const heading = make("h3", {}, title, " ", make("small", {}, counts));
    return make("section", { "data-group": id, "data-total": total, "data-crops": ordered.length }, heading,
      ordered.length ? tiles : make("p", { class: "empty" }, "None of them is among the crops of this page."), more);
  }
  function renderGallery() {
    const chosen = choice(), isCell = chosen.kind === "cell";
    const mine = crops.filter((crop) => belongs(chosen, crop.row, crop.column));
    const totals = {};
    for (const [kind, row, column, count] of data.groups) {
      if (!belongs(chosen, row, column)) continue;
      totals[data.kinds[kind].name] = (totals[data.kinds[kind].name] || 0) + count;
    }
    state.visible = [];
    const groups = data.kinds.filter((kind) => totals[kind.name] && (isCell || state.sections.has(kind.section))).map((kind) =>
      group(kind.name, kind.title, mine.filter((crop) => data.kinds[crop.kind] === kind), totals[kind.name]));
    if (!groups.length) groups.push(make("p", { class: "empty" }, "There are none."));
    byId("groups").replaceChildren(...groups);
    const title = byId("gallery-title");
    if (chosen.kind === "all") title.replaceChildren("All classes");
    else if (!isCell) title.replaceChildren("Class ", named(nameOf(chosen.id)));
    else {
      const count = Object.values(totals).reduce((sum, each) => sum + each, 0);
      title.replaceChildren("Predicted ", named(nameOf(chosen.row)), ", true ", named(nameOf(chosen.column)), " ", make("small", {}, grouped(count)));
    }
    byId("controls").className = `controls ${chosen.kind}`;
    const select = byId("class-choice");
    select.value = isCell ? "cell" : chosen.kind === "all" ? "" : String(chosen.id);
  }

  /* Above the crops: which class, which kinds, in which order. */
  function renderControls() {
    const select = make("select", { id: "class-choice" }, make("option", { value: "" }, "all classes"),
      ...data.names.map((name, id) => make("option", { value: id }, name)));
    select.append(make("option", { value: "cell", disabled: "", hidden: "" }, "one cell"));
    select.addEventListener("change", () => choose(select.value ? `#class=${select.value}` : "#all"));
    const sort = make("select", { id: "sort-choice" }, ...Object.entries(SORTS).map(([value, [text]]) => make("option", { value }, text)));
    const direction = make("button", { type: "button", id: "sort-direction" });
    const showDirection = () => {
      direction.textContent = state.descending ? "↓" : "↑";
      direction.setAttribute("aria-label", state.descending ? "highest or last first; reverse" : "lowest or first first; reverse");
      direction.title = direction.getAttribute("aria-label");
    };
    sort.addEventListener("change", () => {
      state.sort = sort.value;
      state.descending = ["score", "iou", "size"].includes(sort.value);
      showDirection();
      renderGallery();
    });
    direction.addEventListener("click", () => { state.descending = !state.descending; showDirection(); renderGallery(); });
    showDirection();
    const kinds = SECTIONS.map(([id, title]) => {
      const box = make("input", { type: "checkbox", "data-section": id });
      box.checked = state.sections.has(id);
      box.addEventListener("change", () => { state.sections[box.checked ? "add" : "delete"](id); renderGallery(); });
      return make("label", { class: "kind" }, box, title);
    });
    const boxes = make("input", { type: "checkbox", id: "boxes-choice" });
    boxes.checked = true;
    boxes.addEventListener("change", () => document.body.classList.toggle("no-boxes", !boxes.checked));
    const all = make("button", { type: "button", id: "show-all" }, "Show all classes");
    all.addEventListener("click", () => choose("#all"));
    byId("controls").append(make("label", {}, "Class", select), all, make("label", {}, "Sort by", sort), direction, ...kinds,
      make("label", {}, boxes, "Boxes"), make("span", { class: "key" }, make("i"), "found"),
      make("span", { class: "key" }, make("i", { class: "labelled" }), "labelled"));
  }

  /* The matrix: one button per cell with a count, arrow keys lead from one to the next. */
  const cells = new Map();
  function renderMatrix() {
    const many = background > MANY, size = background + 1;
    const counts = new Map(data.cells.map(([row, column, ...rest]) => [row * size + column, rest]));
    const ids = [...Array(size).keys()];
    const heads = ids.map((id) => make("th", { scope: "col", title: isolated(nameOf(id)) }, make("span", {}, named(nameOf(id)))));
    const corner = make("td", {}, "predicted ↓", make("br"), "true →");
    const rows = ids.map((row) => make("tr", {}, make("th", { scope: "row", title: isolated(nameOf(row)) }, make("span", {}, named(nameOf(row)))),
      ...ids.map((column) => {
        const cell = make("td", row === column && row < background ? { class: "diagonal" } : {});
        const [count, share] = counts.get(row * size + column) || [];
        if (count) {
          const text = `predicted ${isolated(nameOf(row))}, true ${isolated(nameOf(column))}: ${grouped(count)} (${share.toFixed(2)})`;
          const button = make("button", { type: "button", tabindex: -1, title: text, "aria-label": text, "data-cell": `${row},${column}`, "data-count": count }, String(count));
          button.style.setProperty("--share", String(0.08 + 0.92 * share));
          button.classList.toggle("full", share > 0.55);
          button.addEventListener("click", () => choose(`#cell=${row},${column}`));
          cells.set(row * size + column, button);
          cell.append(button);
        }
        return cell;
      })));
    const table = make("table", { "aria-label": "confusion matrix: predicted classes in rows, true ones in columns" },
      make("thead", {}, make("tr", {}, corner, ...heads)), make("tbody", {}, ...rows));
    byId("matrix").classList.toggle("many", many);
    byId("matrix").style.setProperty("--cell", many ? ".8rem" : background > 12 ? "1.7rem" : "2.3rem");
    byId("matrix").replaceChildren(table);
    const first = cells.values().next().value;
    if (first) first.tabIndex = 0;
    byId("matrix").addEventListener("keydown", (event) => {
      const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] || [0, 0];
      if (!event.target.dataset.cell || !(down || right)) return;
      event.preventDefault();
      let [row, column] = event.target.dataset.cell.split(",").map(Number);
      for (row += down, column += right; row >= 0 && row < size && column >= 0 && column < size; row += down, column += right) {
        const next = cells.get(row * size + column);
        if (next) { focusCell(next); return; }
      }
    });
  }
  function focusCell(button) {
    for (const each of cells.values()) each.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
  }

  /* The classes with their figures, sorted by any of them. */
  const classSort = { column: 0, descending: false };
  function classRows() {
    const rows = data.names.map((name, id) => ({ id, values: [name, data.classes[id].objects, data.classes[id].AP50, data.classes[id].AP, 0, 0, 0] }));
    const column = { false: 4, missed: 5, confused: 6 };
    for (const [kind, row, true_, count] of data.groups) {
      const index = column[data.kinds[kind].section];
      if (index === undefined) continue;
      for (const id of new Set([row, true_])) if (id < background) rows[id].values[index] += count;
    }
    return rows;
  }
  function renderClasses() {
    const titles = ["class", "objects", "AP50", "AP", "false", "missed", "confused"];
    const sign = classSort.descending ? -1 : 1;
    const rows = classRows().sort((one, other) => {
      const a = classSort.column ? one.values[classSort.column] : one.id, b = classSort.column ? other.values[classSort.column] : other.id;
      return sign * (a - b) || one.id - other.id;
    });
    const heads = titles.map((title, index) => {
      const button = make("button", { type: "button" }, title);
      const isSorted = classSort.column === index;
      button.addEventListener("click", () => {
        classSort.descending = isSorted ? !classSort.descending : index > 0;
        classSort.column = index;
        renderClasses();
        byId("classes").querySelectorAll("thead button")[index].focus();
      });
      return make("th", { scope: "col", "aria-sort": isSorted ? classSort.descending ? "descending" : "ascending" : null }, button);
    });
    const body = rows.map(({ id, values: [name, objects, AP50, AP, ...errors] }) => {
      const button = make("button", { type: "button", "data-class": id }, named(name));
      button.addEventListener("click", () => choose(`#class=${id}`));
      const cells = [grouped(objects), objects ? AP50.toFixed(3) : "–", objects ? AP.toFixed(3) : "–", ...errors.map(grouped)];
      return make("tr", { "data-row": id }, make("td", {}, button), ...cells.map((text) => make("td", {}, text)));
    });
    byId("classes").replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body)));
    markChosen();
  }

  /* One crop, large, with all that is known of it. */
  function openDetail(crop) {
    const dialog = byId("detail");
    const step = (by) => {
      const next = state.visible[state.visible.indexOf(crop) + by];
      if (next) openDetail(next);
    };
    const index = state.visible.indexOf(crop), kind = data.kinds[crop.kind];
    const facts = [
      ["kind", kind.title], ["predicted", named(nameOf(crop.row))], ["true", named(nameOf(crop.column))],
      ["score", crop.found ? crop.score.toFixed(4) : "–"],
      [kind.name === "ignored" ? "share inside the region" : "IoU", crop.found && crop.labelled ? crop.iou.toFixed(4) : "–"],
      ["width and height", `${crop.size.join(" × ")} px`], ["image", named(crop.path)],
    ];
    if (crop.other !== null) facts.splice(3, 0, ["class of the labelled box", named(nameOf(crop.other))]);
    const list = make("dl", {}, ...facts.flatMap(([title, value]) => [make("dt", {}, title), make("dd", {}, value)]));
    const back = make("button", { type: "button" }, "← previous"), on = make("button", { type: "button" }, "next →");
    const close = make("button", { type: "button" }, "Close");
    back.disabled = index <= 0;
    on.disabled = index >= state.visible.length - 1;
    back.addEventListener("click", () => step(-1));
    on.addEventListener("click", () => step(1));
    close.addEventListener("click", () => dialog.close());
    dialog.onkeydown = (event) => {
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    };
    dialog.replaceChildren(make("h2", { id: "detail-title" }, ...describe(crop)),
      make("div", { class: "detail" }, frame(crop), make("div", {}, list, make("div", { class: "buttons" }, back, on, close))));
    if (!dialog.open) dialog.showModal();
    (on.disabled ? close : on).focus();
  }

  function markChosen() {
    const chosen = choice();
    for (const button of cells.values()) {
      const isIt = chosen.kind === "cell" && button.dataset.cell === `${chosen.row},${chosen.column}`;
      button.toggleAttribute("aria-current", isIt);
    }
    for (const row of document.querySelectorAll("#classes tbody tr")) {
      row.classList.toggle("chosen", chosen.kind === "class" && Number(row.dataset.row) === chosen.id);
    }
  }
  function renderCurves() {
    const chosen = choice(), id = chosen.kind === "class" ? chosen.id : null;
    byId("curves-class").replaceChildren(...(id === null ? [] : ["in orange: ", named(nameOf(id))]));
    byId("curves").replaceChildren(...curveFigures(data, id));
  }
  function render() {
    state.shown = {};
    markChosen();
    renderCurves();
    renderGallery();
  }
  window.addEventListener("hashchange", () => {
    render();
    if (byId("gallery").getBoundingClientRect().top > window.innerHeight * 0.6) byId("gallery").scrollIntoView();
    else if (byId("gallery").getBoundingClientRect().top < 0) byId("gallery").scrollIntoView();
  });
  renderControls();
  renderMatrix();
  renderClasses();
  render();
})();
