// What the page shows, unpacked. Places are in pixels of the map: x to the right, y downwards.

const byId = (id) => document.getElementById(id);

async function unpack() {
  const bytes = Uint8Array.from(atob(byId("data").textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const raw = JSON.parse(await new Response(stream).text());
  raw.items = raw.rings.map((packed, index) => itemOf(raw, packed, index));
  delete raw.rings;
  delete raw.columns;
  return raw;
}

function itemOf(raw, packed, index, row = index) {
  const item = { index, parts: packed.map((part) => part.map(placesOf)) };
  for (const [name, values] of Object.entries(raw.columns)) item[name] = values[row];
  item.box = boxOf(item.parts);
  return item;
}

// A ring is packed as tenths of a pixel: the first place, then steps from place to place.
function placesOf(steps) {
  const places = [];
  let x = 0;
  let y = 0;
  for (let i = 0; i < steps.length; i += 2) {
    x += steps[i];
    y += steps[i + 1];
    places.push([x / 10, y / 10]);
  }
  return places;
}

function boxOf(parts) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const part of parts) {
    for (const [x, y] of part[0]) {
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    }
  }
  return box;
}

// Longitude and latitude by the polynomials that were fitted to the map's projection.
function lonLatOf(grid, x, y) {
  const u = (2 * x) / grid.width - 1;
  const v = (2 * y) / grid.height - 1;
  let lon = 0;
  let lat = 0;
  let at = 0;
  for (let i = 0, a = 1; i <= grid.degree; i += 1, a *= u) {
    for (let j = 0, b = a; i + j <= grid.degree; j += 1, b *= v) {
      lon += grid.lon[at] * b;
      lat += grid.lat[at] * b;
      at += 1;
    }
  }
  return [((((lon + 180) % 360) + 360) % 360) - 180, lat];
}

// The few events of the page: what is shown, what is selected, what has changed.
function makeBus() {
  const heard = {};
  return {
    on(name, listen) {
      (heard[name] ??= []).push(listen);
    },
    emit(name, value) {
      for (const listen of heard[name] ?? []) listen(value);
    },
  };
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  return fill(made, attributes, children);
}

function drawing(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  return fill(made, attributes, children);
}

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function dot(colour) {
  const made = element("span", { class: "dot", "aria-hidden": "true" });
  made.style.setProperty("--dot", colour);
  return made;
}
