// The changes that are shown, as files.

const EXPORTED = ["id", "class", "kind", "status", "area_m2", "perimeter_m", "compactness", "probability_mean", "probability_max", "ndvi_change", "ndbi_change", "ndwi_change", "date_before", "date_after"];

function makeExport(report, list) {
  byId("export-csv").addEventListener("click", () => {
    save(`${report.name}.csv`, "text/csv", csvOf(report, list.shown));
  });
  byId("export-geojson").addEventListener("click", () => {
    save(`${report.name}.geojson`, "application/geo+json", geojsonOf(report, list.shown));
  });
}

function propertiesOf(report, item) {
  const known = { ...item, ...report.sensed, kind: item.kind === null ? null : nameOf(report, item) };
  const names = EXPORTED.filter((name) => known[name] !== undefined);
  return Object.fromEntries(names.map((name) => [name, known[name]]));
}

// RFC 4180; a text that a spreadsheet would take for a formula is kept from being one.
function csvOf(report, items) {
  const cell = (value) => {
    if (value === null) return "";
    if (typeof value === "number") return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const rows = items.map((item) => {
    const [left, top, right, bottom] = item.box;
    const [longitude, latitude] = lonLatOf(report.grid, (left + right) / 2, (top + bottom) / 2);
    return { ...propertiesOf(report, item), longitude: rounded(longitude), latitude: rounded(latitude) };
  });
  const names = Object.keys(rows[0]);
  return [names.join(","), ...rows.map((row) => names.map((n) => cell(row[n])).join(","))].join("\r\n") + "\r\n";
}

// RFC 7946: longitude and latitude on WGS84, outer rings against the clock.
function geojsonOf(report, items) {
  const ring = (places) => [...places, places[0]].map(([x, y]) => lonLatOf(report.grid, x, y).map(rounded));
  const features = items.map((item) => {
    const parts = item.parts.map((part) => part.map(ring));
    const single = parts.length === 1;
    const geometry = { type: single ? "Polygon" : "MultiPolygon", coordinates: single ? parts[0] : parts };
    return { type: "Feature", properties: propertiesOf(report, item), geometry };
  });
  return JSON.stringify({ type: "FeatureCollection", features });
}

const rounded = (value) => Math.round(value * 1e7) / 1e7;

function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
