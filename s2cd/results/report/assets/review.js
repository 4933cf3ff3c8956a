// Review: each decision is sent to the server that made this page, and shown once it is kept.

const DECISIONS = [
  { status: "accepted", text: "Accept", key: "a" },
  { status: "rejected", text: "Reject", key: "r" },
  { status: "unreviewed", text: "Undecided", key: "u" },
];

function makeReview(report, bus, { view, list, apply }) {
  const review = { report, bus, view, list, apply, busy: false };
  const toast = element("p", { class: "toast", role: "alert", hidden: "" });
  document.body.append(toast);
  review.tell = (text) => {
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(review.waiting);
    review.waiting = setTimeout(() => {
      toast.hidden = true;
    }, 6000);
  };
  addBar(review);
  addActions(review);
  addKeys(review);
}

// The address of this page holds the token; the server refuses whatever else writes.
async function send(review, path, value) {
  if (review.busy) return null;
  review.busy = true;
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    return said;
  } catch (error) {
    const lost = error instanceof TypeError;
    review.tell(lost ? "s2cd no longer answers: start `s2cd review` again. What you decided is kept." : error.message);
    return null;
  } finally {
    review.busy = false;
  }
}

function addBar(review) {
  const { report } = review;
  const progress = element("progress", { "aria-label": "Reviewed", max: 1, value: 0 });
  const text = element("p", { role: "status", id: "review-count" });
  const add = element("button", { type: "button", id: "review-add" }, "Add a change");
  const finish = element("button", { type: "button", id: "review-finish" }, "Finish");
  const bar = element("section", { class: "review-bar", "aria-label": "Review" }, progress, text, statusChoice(review), add, finish);
  byId("list").prepend(bar);
  review.count = () => {
    const done = report.items.filter((item) => item.status !== "unreviewed").length;
    progress.max = Math.max(1, report.items.length);
    progress.value = done;
    text.textContent = `${counted(done)} of ${counted(report.items.length)} reviewed`;
  };
  add.addEventListener("click", () => startDrawing(review, null));
  finish.addEventListener("click", async () => {
    if (!(await send(review, "finish", {}))) return;
    for (const button of document.querySelectorAll("#detail-actions button, .review-bar button")) button.disabled = true;
    review.finished = true;
    review.tell("The review is kept. You can close this page.");
  });
  review.count();
}

function statusChoice(review) {
  const choice = element("select", { "aria-label": "Show changes that are", id: "review-status" });
  for (const [value, text] of [["", "all"], ["unreviewed", "unreviewed"], ["accepted", "accepted"], ["rejected", "rejected"], ["added", "added"]]) {
    choice.append(element("option", { value }, text));
  }
  choice.addEventListener("change", () => {
    review.report.wanted = choice.value || null;
    review.apply();
  });
  return choice;
}

function addActions(review) {
  const host = byId("detail-actions");
  host.hidden = false;
  const buttons = DECISIONS.map(({ status, text, key }) => {
    const button = element("button", { type: "button", "data-status": status }, text, element("kbd", {}, key.toUpperCase()));
    button.addEventListener("click", () => decide(review, status));
    return button;
  });
  const draw = element("button", { type: "button", id: "review-redraw" }, "Redraw", element("kbd", {}, "D"));
  draw.addEventListener("click", () => review.list.chosen && startDrawing(review, review.list.chosen));
  host.append(...buttons, draw);
  const show = (item) => {
    if (!item || item !== review.list.chosen) return;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.status === item.status));
  };
  review.bus.on("selected", show);
  review.bus.on("changed", show);
}

function addKeys(review) {
  document.addEventListener("keydown", (event) => {
    if (review.finished || review.drawing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) return;
    const found = DECISIONS.find(({ key }) => key === event.key.toLowerCase());
    if (found && review.list.chosen) decide(review, found.status);
    else if (event.key.toLowerCase() === "d" && review.list.chosen) startDrawing(review, review.list.chosen);
    else if (event.key.toLowerCase() === "n") chooseNext(review);
  });
}

async function decide(review, status) {
  const item = review.list.chosen;
  if (!item) return;
  const said = await send(review, `changes/${item.id}`, { status });
  if (!said) return;
  take(review, item, said);
  if (status !== "unreviewed") chooseNext(review);
}

// What the server has kept is what the page shows.
function take(review, item, said) {
  const index = item ? item.index : review.report.items.length;
  const fresh = itemOf(said, said.rings[0], index, 0);
  const target = item ?? fresh;
  if (item) Object.assign(item, fresh);
  else review.report.items.push(fresh);
  review.count();
  if (!item) review.apply();
  review.bus.emit("changed", target);
  return target;
}

// The next of the list, as it is sorted, that nobody has decided about.
function chooseNext(review) {
  const { shown, chosen } = review.list;
  const from = shown.indexOf(chosen) + 1;
  const next = [...shown.slice(from), ...shown.slice(0, from)].find((item) => item.status === "unreviewed");
  if (next) review.bus.emit("choose", next);
  else review.tell("All changes of this list are reviewed.");
}

function startDrawing(review, item) {
  if (review.drawing || review.finished) return;
  const { map } = review.view;
  const drawing = { item, places: [], line: L.polyline([], { color: "#ffffff", weight: 3, interactive: false }).addTo(map) };
  drawing.dots = L.layerGroup().addTo(map);
  review.drawing = drawing;
  map.doubleClickZoom.disable();
  review.view.group.removeFrom(map);
  const frame = byId("map-frame");
  frame.classList.add("drawing");
  drawing.aim = crossHair();
  frame.append(drawing.aim);
  drawing.bar = drawingBar(review);
  frame.append(drawing.bar);
  byId("detail").hidden = true;
  drawing.click = ({ latlng }) => addPlace(review, latlng);
  drawing.keys = (event) => drawingKey(review, event);
  map.on("click", drawing.click);
  document.addEventListener("keydown", drawing.keys, true);
  byId("map").focus({ preventScroll: true });
}

function crossHair() {
  return drawing("svg", { class: "aim", viewBox: "0 0 22 22", "aria-hidden": "true" }, drawing("path", { d: "M11 2v18M2 11h18", stroke: "#fff" }));
}

function drawingBar(review) {
  const text = review.drawing.item ? `Draw change ${review.drawing.item.id} anew` : "Draw the change that was missed";
  const button = (id, title, act) => {
    const made = element("button", { type: "button", id }, title);
    made.addEventListener("click", act);
    return made;
  };
  const help = "click around it; or move the map and press Space";
  return element(
    "div",
    { class: "drawing-bar", role: "group", "aria-label": text },
    element("p", {}, `${text}: ${help}`),
    button("drawing-undo", "Undo point", () => undoPlace(review)),
    button("drawing-done", "Done", () => finishDrawing(review)),
    button("drawing-cancel", "Cancel", () => stopDrawing(review)),
  );
}

function drawingKey(review, event) {
  const act = {
    Enter: () => finishDrawing(review),
    Escape: () => stopDrawing(review),
    Backspace: () => undoPlace(review),
    " ": () => addPlace(review, review.view.map.getCenter()),
  }[event.key];
  if (!act || event.target.closest("button")) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

function addPlace(review, latlng) {
  const { grid } = review.report;
  const [mx, my] = grid.metres;
  const within = (value, most) => Math.round(Math.min(Math.max(value, 0), most) * 100) / 100;
  const place = [within(latlng.lng / mx, grid.width), within(grid.height - latlng.lat / my, grid.height)];
  const last = review.drawing.places.at(-1);
  if (last && last[0] === place[0] && last[1] === place[1]) return;
  review.drawing.places.push(place);
  showDrawing(review);
}

function undoPlace(review) {
  review.drawing.places.pop();
  showDrawing(review);
}

function showDrawing({ drawing, view }) {
  const corners = drawing.places.map(([x, y]) => view.at(x, y));
  drawing.line.setLatLngs(corners.length > 2 ? [...corners, corners[0]] : corners);
  drawing.dots.clearLayers();
  for (const corner of corners) {
    L.circleMarker(corner, { radius: 4, color: "#1d2429", weight: 1.5, fillColor: "#fff", fillOpacity: 1, interactive: false }).addTo(drawing.dots);
  }
}

async function finishDrawing(review) {
  const { item, places } = review.drawing;
  if (places.length < 3) {
    review.tell("An outline has three points at least.");
    return;
  }
  const said = await send(review, item ? `changes/${item.id}` : "changes", { places });
  if (!said) return;
  stopDrawing(review);
  const kept = take(review, item, said);
  review.bus.emit("choose", kept);
}

function stopDrawing(review) {
  const { line, dots, bar, aim, click, keys } = review.drawing;
  const { map } = review.view;
  line.remove();
  dots.remove();
  bar.remove();
  aim.remove();
  map.off("click", click);
  document.removeEventListener("keydown", keys, true);
  map.doubleClickZoom.enable();
  if (byId("show-outlines").checked) review.view.group.addTo(map);
  byId("map-frame").classList.remove("drawing");
  review.drawing = null;
  review.bus.emit("selected", review.list.chosen);
}
