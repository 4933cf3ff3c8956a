// Numbers and names as people read them.

function hectares(m2) {
  const value = m2 / 1e4;
  const digits = value < 0.1 ? 3 : value < 10 ? 2 : value < 1000 ? 1 : 0;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const percent = (share) => `${Math.round(share * 100)} %`;
const counted = (n) => n.toLocaleString("en");
const metres = (m) => `${Math.round(m).toLocaleString("en")} m`;
const signed = (v) => `${v < 0 ? "\u2212" : "+"}${Math.abs(v).toFixed(2)}`;

function degrees([lon, lat]) {
  const side = (value, positive, negative) =>
    `${Math.abs(value).toFixed(5)}° ${value < 0 ? negative : positive}`;
  return `${side(lat, "N", "S")}, ${side(lon, "E", "W")}`;
}

function nameOf(report, item) {
  return item.kind === null || item.kind === undefined ? "change" : report.kinds[item.kind].name;
}

function colourOf(report, item) {
  return item.kind === null || item.kind === undefined ? "#d61820" : report.kinds[item.kind].colour;
}
