// The list of changes: filtered, sorted, a page at a time; and what is known of the chosen one.

const NARROW = window.matchMedia("(max-width: 1100px)");
const PAGE = NARROW.matches ? 25 : 100;

function columnsOf(report) {
  const known = (name) => report.items.some((item) => item[name] !== null && item[name] !== undefined);
  const columns = [
    { key: "id", title: "No.", cell: idCell },
    { key: "kind", title: "What changed", cell: kindCell },
    ...(new Set(report.items.map((item) => item.class)).size > 1 ? [{ key: "class", title: "Class", number: true, cell: (r, item) => String(item.class ?? "") }] : []),
    { key: "area_m2", title: "Area, ha", number: true, cell: (r, item) => hectares(item.area_m2) },
  ];
  if (known("probability_mean")) {
    columns.push({ key: "probability_mean", title: report.calibrated ? "Probability" : "Score", number: true, cell: meterCell });
  }
  if (known("ndvi_change")) {
    const cell = (r, item) => (item.ndvi_change === null ? "" : signed(item.ndvi_change));
    columns.push({ key: "ndvi_change", title: "NDVI", number: true, optional: true, cell });
  }
  if (known("status")) columns.push({ key: "status", title: "Status", cell: statusCell });
  return columns;
}

function idCell(report, item) {
  const label = `Show change ${item.id} on the map`;
  return element("button", { type: "button", "aria-label": label }, String(item.id));
}

function kindCell(report, item) {
  return element("span", { class: "kind" }, dot(colourOf(report, item)), nameOf(report, item));
}

function meterCell(report, item) {
  if (item.probability_mean === null) return "";
  const bar = element("i");
  bar.style.width = `${100 * item.probability_mean}%`;
  const meter = element("span", { class: "meter", "aria-hidden": "true" }, bar);
  return element("span", { class: "metered" }, meter, item.probability_mean.toFixed(2));
}

function statusCell(report, item) {
  return element("span", { class: `mark mark-${item.status}` }, item.status);
}

function makeList(report, bus) {
  const list = { columns: columnsOf(report), sort: { key: "area_m2", down: true }, page: 0, shown: [], chosen: null };
  const table = byId("table");
  const redraw = () => drawPage(report, list, table);
  drawHead(list, table, () => {
    sortItems(report, list);
    list.page = 0;
    redraw();
  });
  bus.on("shown", (items) => {
    list.shown = [...items];
    sortItems(report, list);
    list.page = 0;
    redraw();
  });
  bus.on("selected", (item) => {
    list.chosen = item;
    const at = item ? list.shown.indexOf(item) : -1;
    if (at >= 0) list.page = Math.floor(at / PAGE);
    redraw();
    const row = table.querySelector("tr[aria-current]");
    if (row && !NARROW.matches) row.scrollIntoView({ block: "nearest" });
    if (item && NARROW.matches) byId("map-frame").scrollIntoView({ block: "nearest", behavior: NO_MOTION.matches ? "auto" : "smooth" });
  });
  bus.on("changed", redraw);
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-index]");
    if (row) bus.emit("choose", report.items[Number(row.dataset.index)]);
  });
  for (const [id, step] of [["page-previous", -1], ["page-next", 1]]) {
    byId(id).addEventListener("click", () => {
      list.page += step;
      redraw();
      byId("table-frame").scrollTop = 0;
    });
  }
  return list;
}

function sortItems(report, list) {
  const { key, down } = list.sort;
  const value = key === "kind" ? (item) => nameOf(report, item) : (item) => item[key];
  const sign = down ? -1 : 1;
  list.shown.sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === b) return one.id - other.id;
    if (a === null || a === undefined) return 1;
    if (b === null || b === undefined) return -1;
    return a < b ? -sign : sign;
  });
}

function drawHead(list, table, sorted) {
  const row = element("tr");
  for (const column of list.columns) {
    const button = element("button", { type: "button" }, column.title);
    const head = element("th", { scope: "col", class: classOf(column) }, button);
    column.head = head;
    button.addEventListener("click", () => {
      const same = list.sort.key === column.key;
      list.sort = { key: column.key, down: same ? !list.sort.down : Boolean(column.number) };
      markHead(list);
      sorted();
    });
    row.append(head);
  }
  table.tHead.replaceChildren(row);
  markHead(list);
}

function markHead(list) {
  for (const { key, head } of list.columns) {
    head.removeAttribute("aria-sort");
    if (key === list.sort.key) head.setAttribute("aria-sort", list.sort.down ? "descending" : "ascending");
  }
}

const classOf = ({ number, optional }) => `${number ? "number" : ""} ${optional ? "optional" : ""}`.trim();

function drawPage(report, list, table) {
  const pages = Math.max(1, Math.ceil(list.shown.length / PAGE));
  list.page = Math.min(Math.max(list.page, 0), pages - 1);
  const first = list.page * PAGE;
  const rows = list.shown.slice(first, first + PAGE).map((item) => rowOf(report, list, item));
  if (!rows.length) {
    const empty = report.items.length ? "No change passes these filters." : "No change was found.";
    rows.push(element("tr", {}, element("td", { class: "nothing", colspan: list.columns.length }, empty)));
  }
  const held = table.tBodies[0].contains(document.activeElement) && document.activeElement.closest("tr");
  table.tBodies[0].replaceChildren(...rows);
  if (held) table.querySelector(`tr[data-index="${held.dataset.index}"] button`)?.focus({ preventScroll: true });
  byId("pager").hidden = pages === 1;
  byId("page-text").textContent = `${counted(first + 1)} to ${counted(first + rows.length)} of ${counted(list.shown.length)}`;
  byId("page-previous").disabled = list.page === 0;
  byId("page-next").disabled = list.page === pages - 1;
}

function rowOf(report, list, item) {
  const row = element("tr", { "data-index": item.index });
  if (item === list.chosen) row.setAttribute("aria-current", "true");
  for (const column of list.columns) {
    row.append(element("td", { class: classOf(column) }, column.cell(report, item)));
  }
  return row;
}

function makeDetail(report, bus, list) {
  const box = byId("detail");
  const show = (item) => {
    box.hidden = !item;
    if (!item) return;
    byId("detail-title").replaceChildren(dot(colourOf(report, item)), `${item.id}: ${nameOf(report, item)}`);
    const facts = factsOf(report, item).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
    byId("detail-facts").replaceChildren(...facts);
  };
  const step = (by) => {
    const { shown, chosen } = list;
    if (!shown.length) return;
    const at = (shown.indexOf(chosen) + by + shown.length) % shown.length;
    bus.emit("choose", shown[at]);
  };
  bus.on("selected", show);
  bus.on("changed", (item) => item === list.chosen && show(item));
  byId("detail-previous").addEventListener("click", () => step(-1));
  byId("detail-next").addEventListener("click", () => step(1));
  byId("detail-close").addEventListener("click", () => bus.emit("choose", null));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented) bus.emit("choose", null);
  });
}

function factsOf(report, item) {
  const facts = [["Area", `${hectares(item.area_m2)} ha`]];
  const add = (name, value, text) => value !== null && value !== undefined && facts.push([name, text(value)]);
  const scored = report.calibrated ? "Probability" : "Score";
  add(`${scored}, mean`, item.probability_mean, (v) => v.toFixed(2));
  add(`${scored}, highest`, item.probability_max, (v) => v.toFixed(2));
  add("NDVI, vegetation", item.ndvi_change, signed);
  add("NDBI, built-up", item.ndbi_change, signed);
  add("NDWI, water", item.ndwi_change, signed);
  add("Perimeter", item.perimeter_m, metres);
  const [left, top, right, bottom] = item.box;
  facts.push(["Middle", degrees(lonLatOf(report.grid, (left + right) / 2, (top + bottom) / 2))]);
  return facts;
}
