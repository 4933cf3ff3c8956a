// The map: pictures of both dates with a swipe between them, changed pixels, and outlines.

const NO_MOTION = window.matchMedia("(prefers-reduced-motion: reduce)");
const THUMB = 44;

function makeMap(report, bus) {
  const { grid } = report;
  const [mx, my] = grid.metres;
  const at = (x, y) => L.latLng((grid.height - y) * my, x * mx);
  const everything = L.latLngBounds(at(0, grid.height), at(grid.width, 0));
  const map = L.map("map", {
    crs: L.CRS.Simple,
    zoomSnap: 0.25,
    wheelPxPerZoomLevel: 110,
    minZoom: -12,
    maxZoom: 1.5 - Math.log2(Math.min(mx, my) / 5),
    maxBounds: everything.pad(0.5),
    maxBoundsViscosity: 0.6,
    attributionControl: false,
    zoomControl: false,
    renderer: L.canvas({ padding: 0.3, tolerance: 5 }),
    fadeAnimation: !NO_MOTION.matches,
    zoomAnimation: !NO_MOTION.matches,
  });
  L.control.zoom({ position: "bottomright" }).addTo(map);
  byId("scale").append(L.control.scale({ imperial: false, maxWidth: 120 }).addTo(map).getContainer());
  const view = { map, at, grid, everything, pictures: addPictures(map, at, report) };
  document.querySelector(".north").hidden = !grid.north_up;
  showWhole(view);
  followPointer(view);
  addOutlines(view, report, bus);
  addSwipe(view, report);
  byId("whole").addEventListener("click", () => showWhole(view));
  new ResizeObserver(() => map.invalidateSize({ pan: false })).observe(byId("map-frame"));
  return view;
}

function showWhole({ map, everything }) {
  map.setMinZoom(-12);
  const zoom = map.getBoundsZoom(everything, false, L.point(12, 12));
  map.fitBounds(everything, { padding: [6, 6], animate: false });
  map.setMinZoom(zoom - 0.75);
}

function addPictures(map, at, report) {
  const order = { before: 210, after: 220, class: 300, unseen: 290 };
  const pictures = {};
  for (const [name, zIndex] of Object.entries(order)) {
    const pane = map.createPane(name);
    pane.style.zIndex = zIndex;
    pane.style.pointerEvents = "none";
    const layers = report.pictures
      .filter((picture) => picture.layer === name)
      .map((picture) => overlay(picture, at, name));
    if (layers.length) pictures[name] = L.layerGroup(layers);
  }
  for (const name of ["class", "unseen"]) {
    const box = byId(`show-${name}`);
    box.parentElement.hidden = !pictures[name];
    const show = () => pictures[name] && pictures[name][box.checked ? "addTo" : "removeFrom"](map);
    box.addEventListener("change", show);
    show();
  }
  return pictures;
}

function overlay(picture, at, pane) {
  const [left, top, right, bottom] = picture.box;
  const source = byId(picture.id).textContent.trim();
  const crisp = pane === "class" || pane === "unseen";
  return L.imageOverlay(source, L.latLngBounds(at(left, bottom), at(right, top)), {
    pane,
    className: crisp ? "crisp" : "",
    alt: "",
  });
}

function followPointer({ map, grid }) {
  const place = byId("place");
  const [mx, my] = grid.metres;
  map.on("mousemove", ({ latlng }) => {
    place.textContent = degrees(lonLatOf(grid, latlng.lng / mx, grid.height - latlng.lat / my));
  });
  map.on("mouseout", () => {
    place.textContent = "";
  });
}

function addOutlines(view, report, bus) {
  const { map, at } = view;
  const group = L.featureGroup().addTo(map);
  const drawn = new Map();
  const chosen = L.layerGroup().addTo(map);
  const rings = (item) => item.parts.map((part) => part.map((ring) => ring.map(([x, y]) => at(x, y))));
  const style = (item) => ({ ...outlineStyle(report, item), index: item.index });
  const draw = (item) => {
    const line = L.polygon(rings(item), style(item));
    drawn.set(item.index, line);
    return line.addTo(group);
  };
  bus.on("shown", (items) => {
    const wanted = new Set(items.map((item) => item.index));
    for (const [index, line] of drawn) {
      if (!wanted.has(index)) {
        group.removeLayer(line);
        drawn.delete(index);
      }
    }
    for (const item of items) if (!drawn.has(item.index)) draw(item);
  });
  bus.on("changed", (item) => {
    if (drawn.has(item.index)) group.removeLayer(drawn.get(item.index));
    draw(item);
  });
  bus.on("selected", (item) => {
    chosen.clearLayers();
    if (!item) return;
    const plain = { fill: false, interactive: false, lineJoin: "round" };
    L.polygon(rings(item), { ...plain, color: "#ffffff", weight: 6, opacity: 0.95 }).addTo(chosen);
    L.polygon(rings(item), { ...plain, color: colourOf(report, item), weight: 2.5 }).addTo(chosen);
  });
  bus.on("zoom", (item) => zoomTo(view, item));
  group.on("click", (event) => {
    L.DomEvent.stopPropagation(event);
    bus.emit("choose", report.items[event.layer.options.index]);
  });
  group.bindTooltip((line) => tooltip(report, report.items[line.options.index]), { sticky: true });
  byId("show-outlines").addEventListener("change", ({ target }) => {
    group[target.checked ? "addTo" : "removeFrom"](map);
  });
  view.group = group;
}

function outlineStyle(report, item) {
  const rejected = item.status === "rejected";
  return {
    color: colourOf(report, item),
    weight: 1.6,
    opacity: rejected ? 0.55 : 1,
    fillOpacity: rejected ? 0 : 0.14,
    dashArray: rejected ? "3 4" : null,
  };
}

function tooltip(report, item) {
  return element("span", {}, `${item.id} · ${nameOf(report, item)} · ${hectares(item.area_m2)} ha`);
}

function zoomTo(view, item) {
  const { map, at, grid } = view;
  const [left, top, right, bottom] = item.box;
  const close = Math.log2(6 / Math.min(...grid.metres)); // a pixel of the map as six of the screen
  const card = byId("detail"); // it covers the lower left corner of the map
  const below = card.offsetWidth > map.getSize().x / 2;
  map.once("moveend", () => view.swipeAcross?.(left, right));
  map.fitBounds(L.latLngBounds(at(left, bottom), at(right, top)), {
    maxZoom: close,
    paddingTopLeft: [below ? 40 : card.offsetWidth + 30, 60],
    paddingBottomRight: [50, below ? card.offsetHeight + 30 : 60],
    animate: !NO_MOTION.matches,
  });
}

function addSwipe(view, report) {
  const { map, pictures } = view;
  if (!pictures.before || !pictures.after) return;
  byId("views").hidden = false;
  const range = byId("swipe-range");
  const pane = map.getPane("after");
  const tags = [byId("tag-before"), byId("tag-after")];
  tags[0].textContent = report.dates.before ?? "before";
  tags[1].textContent = report.dates.after ?? "after";
  const update = () => {
    const width = map.getSize().x;
    const mode = document.querySelector("input[name=view]:checked").value;
    const share = { before: 1, after: 0 }[mode] ?? range.value / 100;
    const x = mode === "swipe" ? THUMB / 2 + share * (width - THUMB) : share * width;
    const [left, top] = Object.values(map.containerPointToLayerPoint([x, 0]));
    const end = map.containerPointToLayerPoint(map.getSize());
    pane.style.clipPath = `polygon(${left}px ${top}px, ${end.x}px ${top}px, ${end.x}px ${end.y}px, ${left}px ${end.y}px)`;
    byId("swipe").hidden = mode !== "swipe";
    byId("swipe").style.setProperty("--at", `${x}px`);
    range.setAttribute("aria-valuetext", `${percent(share)} earlier picture`);
    tags[0].hidden = mode === "after";
    tags[1].hidden = mode === "before";
    tags[0].classList.toggle("dim", mode === "swipe" && x < tags[0].offsetWidth + 24);
    tags[1].classList.toggle("dim", mode === "swipe" && width - x < tags[1].offsetWidth + 24);
  };
  // Where the line does not cross what was chosen, it goes to its middle, so that both dates show.
  view.swipeAcross = (left, right) => {
    const place = (x) => (map.latLngToContainerPoint(view.at(x, 0)).x - THUMB / 2) / (map.getSize().x - THUMB);
    const now = range.value / 100;
    if (now > place(left) && now < place(right)) return;
    range.value = 100 * place((left + right) / 2);
    update();
  };
  for (const name of ["before", "after"]) pictures[name].addTo(map);
  map.on("move zoom resize viewreset", update);
  range.addEventListener("input", update);
  for (const input of document.querySelectorAll("input[name=view]")) {
    input.addEventListener("change", update);
  }
  update();
}
