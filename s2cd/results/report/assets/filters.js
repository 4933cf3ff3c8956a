// Filters, each with the histogram of what it filters.

const BINS = 24;

function makeFilters(report, bus) {
  const areas = report.items.map((item) => item.area_m2);
  const filters = { kinds: null, facets: [] };
  const apply = () => bus.emit("shown", passing(report, filters));
  if (areas.length) {
    filters.facets.push(areaFacet(areas));
    const scores = report.items.map((item) => item.probability_mean).filter((v) => v !== null && v !== undefined);
    if (scores.length) filters.facets.push(scoreFacet(report, scores));
  }
  for (const facet of filters.facets) drawFacet(facet, apply);
  drawKinds(report, filters, apply);
  bus.on("shown", (items) => {
    for (const facet of filters.facets) refreshBars(facet, items);
    const whole = items.length === report.items.length;
    const total = items.reduce((sum, item) => sum + item.area_m2, 0);
    const of = whole ? "" : ` of ${counted(report.items.length)}`;
    byId("count").textContent = `${counted(items.length)}${of} changes, ${hectares(total)} ha`;
    byId("reset").disabled = whole;
    byId("export-csv").disabled = byId("export-geojson").disabled = !items.length;
  });
  byId("reset").addEventListener("click", () => {
    for (const facet of filters.facets) setFacet(facet, 0);
    for (const box of byId("kinds").querySelectorAll("input")) box.checked = true;
    filters.kinds = null;
    apply();
  });
  return apply;
}

function passing(report, { kinds, facets }) {
  return report.items.filter((item) => {
    if (kinds && !kinds.has(item.kind)) return false;
    if (report.wanted && item.status !== report.wanted) return false;
    return facets.every(({ key, least, at }) => at === 0 || (item[key] ?? -Infinity) >= least);
  });
}

// Areas lie over several orders of magnitude: their scale is logarithmic.
function areaFacet(areas) {
  const low = Math.log(Math.max(1, Math.min(...extent(areas))));
  const high = Math.max(Math.log(Math.max(...extent(areas))), low + 1e-6);
  return {
    key: "area_m2",
    host: byId("facet-area"),
    title: "Area, at least",
    value: (share) => Math.exp(low + share * (high - low)),
    share: (area) => (Math.log(Math.max(1, area)) - low) / (high - low),
    text: (area) => `${hectares(area)} ha`,
    values: areas,
  };
}

function scoreFacet(report, scores) {
  const low = Math.floor(Math.min(...extent(scores)) * 20) / 20;
  const high = Math.max(Math.ceil(Math.max(...extent(scores)) * 20) / 20, low + 0.05);
  byId("facet-probability").hidden = false;
  return {
    key: "probability_mean",
    host: byId("facet-probability"),
    title: report.calibrated ? "Probability, at least" : "Score, at least",
    value: (share) => low + share * (high - low),
    share: (score) => (score - low) / (high - low),
    text: (score) => score.toFixed(2),
    values: scores,
  };
}

// The least and the largest, without spreading a long list into arguments.
function extent(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

const binOf = (facet, value) => Math.min(BINS - 1, Math.max(0, Math.floor(facet.share(value) * BINS)));

function countsOf(facet, values) {
  const counts = new Array(BINS).fill(0);
  for (const value of values) counts[binOf(facet, value)] += 1;
  return counts;
}

function drawFacet(facet, apply) {
  const id = `filter-${facet.key}`;
  facet.output = element("output", { for: id });
  facet.input = element("input", { type: "range", id, min: 0, max: 200, step: 1, value: 0 });
  facet.bars = { all: [], kept: [] };
  facet.most = Math.max(...countsOf(facet, facet.values));
  const picture = drawing("svg", { viewBox: `0 0 ${BINS * 10} 40`, preserveAspectRatio: "none", role: "img" });
  for (const kind of ["all", "kept"]) {
    for (let i = 0; i < BINS; i += 1) {
      const bar = drawing("rect", { class: kind, x: i * 10 + 0.8, width: 8.4, rx: 1 });
      facet.bars[kind].push(bar);
      picture.append(bar);
    }
  }
  facet.picture = picture;
  drawBars(facet, "all", facet.values);
  facet.host.replaceChildren(element("label", { for: id }, facet.title, facet.output), picture, facet.input);
  let waiting = 0;
  facet.input.addEventListener("input", () => {
    setFacet(facet, Number(facet.input.value));
    clearTimeout(waiting);
    waiting = setTimeout(apply, 40);
  });
  setFacet(facet, 0);
}

function setFacet(facet, at) {
  facet.at = at;
  facet.input.value = at;
  facet.least = facet.value(at / 200) * (1 - 1e-9);
  const text = at === 0 ? "any" : facet.text(facet.least);
  facet.output.textContent = text;
  facet.input.setAttribute("aria-valuetext", text);
}

function drawBars(facet, kind, values) {
  countsOf(facet, values).forEach((count, i) => {
    const height = count ? Math.max(1.5, (38 * count) / facet.most) : 0;
    facet.bars[kind][i].setAttribute("height", height);
    facet.bars[kind][i].setAttribute("y", 40 - height);
  });
}

function refreshBars(facet, items) {
  const values = items.map((item) => item[facet.key]).filter((v) => v !== null && v !== undefined);
  drawBars(facet, "kept", values);
  const [low, high] = extent(values);
  const range = values.length ? `, from ${facet.text(low)} to ${facet.text(high)}` : "";
  facet.picture.setAttribute("aria-label", `Histogram of ${counted(values.length)} changes${range}`);
}

function drawKinds(report, filters, apply) {
  const present = new Map();
  for (const { kind } of report.items) present.set(kind, (present.get(kind) ?? 0) + 1);
  if (present.size < 2) return;
  const host = byId("kinds");
  host.hidden = false;
  for (const kind of [...present.keys()].sort((a, b) => (a ?? 99) - (b ?? 99))) {
    const box = element("input", { type: "checkbox", checked: "" });
    const item = { kind };
    const count = element("small", {}, counted(present.get(kind)));
    const chip = element("span", { class: "chip" }, dot(colourOf(report, item)), nameOf(report, item), count);
    box.addEventListener("change", () => {
      filters.kinds ??= new Set(present.keys());
      filters.kinds[box.checked ? "add" : "delete"](kind);
      apply();
    });
    host.append(element("label", {}, box, chip));
  }
}
