// The page comes to life.

function makeTheme() {
  const root = document.documentElement;
  const button = byId("theme");
  const next = { system: "light", light: "dark", dark: "system" };
  const told = { system: "as the system has them", light: "light", dark: "dark" };
  let theme = "system";
  button.addEventListener("click", () => {
    theme = next[theme];
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.setAttribute("aria-label", `Colours: ${told[theme]}`);
    button.title = `Colours: ${told[theme]}`;
  });
}

async function start() {
  makeTheme();
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot unpack it. Open it in one of 2023 or later");
  }
  const report = await unpack();
  const bus = makeBus();
  const view = makeMap(report, bus);
  const list = makeList(report, bus);
  makeDetail(report, bus, list);
  makeExport(report, list);
  bus.on("choose", (item) => {
    bus.emit("selected", item);
    if (item) bus.emit("zoom", item);
  });
  const apply = makeFilters(report, bus);
  if (report.review) makeReview(report, bus, { view, list, apply });
  apply();
  if (!report.items.length) byId("count").textContent = "No change was found";
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  const trouble = byId("trouble");
  trouble.textContent = `The map cannot be shown: ${error.message}`;
  trouble.hidden = false;
  throw error;
});
