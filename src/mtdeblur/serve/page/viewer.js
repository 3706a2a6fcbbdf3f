// The picture before and after, one over the other: zoom, pan, a divider, and a region.

import { texts } from "/page/texts.js";

const ENLARGED = 2; // CSS pixels a pixel of a small picture that fills the stage
const LARGEST = 16; // device pixels a pixel of the picture
const NEAR = 24; // CSS pixels from the divider within which it is grasped
const clamp = (value, least, most) => Math.min(most, Math.max(least, value));

export class Viewer extends EventTarget {
  // Events: "split", "zoom", "region" (drawn or changed), "drawing" (begun or ended).
  constructor(stage) {
    super();
    this.stage = stage;
    this.layers = { before: stage.querySelector(".before"), after: stage.querySelector(".after") };
    this.divider = stage.querySelector(".divider");
    this.box = stage.querySelector(".region");
    this.shownStep = null;
    this.pointers = new Map();
    this.reset();
    new ResizeObserver(() => (this.fitted ? this.fit() : this.place())).observe(stage);
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => this.up(event));
    stage.addEventListener("dblclick", (event) => {
      if (!event.target.closest("button") && !this.drawing) this.fitted ? this.full(this.at(event)) : this.fit();
    });
  }

  reset() {
    this.clear("before");
    this.clear("after");
    this.size = null;
    this.scale = 1;
    this.x = this.y = 0;
    this.split = 0.5;
    this.fitted = true;
    this.setRegion(null);
    this.setDrawing(false);
    this.place();
  }

  // The size of the picture in its own pixels.
  setSize(width, height) {
    if (this.size && this.size.width === width && this.size.height === height) return;
    this.size = { width, height };
    this.fit();
  }

  clear(layer) {
    for (const image of this.layers[layer].querySelectorAll("img")) URL.revokeObjectURL(image.src);
    this.layers[layer].replaceChildren();
    if (layer === "after") this.shownStep = null;
    this.place?.();
  }

  // Put a view into a layer; `key` names it, and replaces a view of the same name. Whether it could be decoded.
  async put(layer, key, blob, alt) {
    const image = new Image();
    image.src = URL.createObjectURL(blob);
    image.alt = alt;
    image.dataset.key = key;
    image.draggable = false;
    try {
      await image.decode();
    } catch {
      URL.revokeObjectURL(image.src);
      return false;
    }
    if (!this.size) this.setSize(image.naturalWidth, image.naturalHeight);
    const { width, height } = this.size;
    const longest = Math.max(image.naturalWidth, image.naturalHeight);
    const factor = Math.ceil(Math.max(width, height) / longest); // a large picture's view is reduced
    image.style.width = `${image.naturalWidth * factor}px`;
    image.style.height = `${image.naturalHeight * factor}px`;
    const old = this.layers[layer].querySelector(`[data-key="${key}"]`);
    image.hidden = layer === "after" && key !== this.shownStep;
    if (old) {
      URL.revokeObjectURL(old.src);
      old.replaceWith(image);
    } else {
      this.layers[layer].append(image);
    }
    this.place();
    return true;
  }

  has(key) {
    return Boolean(this.layers.after.querySelector(`[data-key="${key}"]`));
  }

  // Show one of the views of the layer "after"; null for none.
  show(key) {
    this.shownStep = key;
    for (const image of this.layers.after.children) image.hidden = image.dataset.key !== key;
    this.place();
  }

  get comparing() {
    return this.shownStep !== null && this.has(this.shownStep) && this.layers.before.childElementCount > 0;
  }

  get fitScale() {
    if (!this.size) return 1;
    const { clientWidth, clientHeight } = this.stage;
    return Math.min(ENLARGED, clientWidth / this.size.width, clientHeight / this.size.height) || 1;
  }

  // Device pixels a pixel of the picture, in percent.
  get percent() {
    return Math.round(this.scale * devicePixelRatio * 100);
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitScale;
    this.place();
  }

  full(around) {
    this.zoomTo(1 / devicePixelRatio, around);
  }

  zoomBy(factor, around) {
    this.zoomTo(this.scale * factor, around);
  }

  // Zoom so that the picture's point under `around` (in the stage) stays there.
  zoomTo(scale, around = { x: this.stage.clientWidth / 2, y: this.stage.clientHeight / 2 }) {
    const wanted = clamp(scale, Math.min(this.fitScale, 1 / devicePixelRatio), LARGEST / devicePixelRatio);
    const ratio = wanted / this.scale;
    this.x = around.x - (around.x - this.x) * ratio;
    this.y = around.y - (around.y - this.y) * ratio;
    this.scale = wanted;
    this.fitted = Math.abs(wanted - this.fitScale) < 1e-6;
    this.place();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.place();
  }

  setSplit(share) {
    this.split = clamp(share, 0, 1);
    this.place();
    this.dispatchEvent(new Event("split"));
  }

  // The region in pixels of the picture, {x, y, width, height}, or null.
  setRegion(region) {
    this.region = region;
    this.place();
    this.dispatchEvent(new Event("region"));
  }

  setDrawing(on) {
    this.drawing = on;
    this.stage.classList.toggle("drawing", on);
    this.dispatchEvent(new Event("drawing"));
  }

  // Put everything where it belongs.
  place() {
    const { clientWidth, clientHeight } = this.stage;
    const { width, height } = this.size ?? { width: 0, height: 0 };
    const shown = { width: width * this.scale, height: height * this.scale };
    const along = (offset, length, room) =>
      length <= room ? (room - length) / 2 : clamp(offset, room - length, 0);
    this.x = along(this.x, shown.width, clientWidth);
    this.y = along(this.y, shown.height, clientHeight);
    const transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    for (const image of this.stage.querySelectorAll(".layer img")) {
      image.style.transform = transform;
      image.style.imageRendering = this.scale * devicePixelRatio >= 3 ? "pixelated" : "auto";
    }
    const left = Math.max(0, this.x);
    const right = Math.min(clientWidth, this.x + shown.width);
    this.line = left + this.split * (right - left);
    this.extent = { left, right };
    const comparing = this.comparing;
    this.stage.classList.toggle("comparing", comparing);
    this.stage.style.setProperty("--top", `${Math.max(0, this.y)}px`);
    this.stage.style.setProperty("--bottom", `${Math.max(0, clientHeight - this.y - shown.height)}px`);
    this.stage.style.setProperty("--split", comparing ? `${this.line}px` : "100%");
    this.stage.classList.toggle("zoomed", shown.width > clientWidth + 1 || shown.height > clientHeight + 1);
    this.box.hidden = !this.region;
    if (this.region) {
      const { x, y, width: across, height: down } = this.region;
      this.box.style.left = `${this.x + x * this.scale}px`;
      this.box.style.top = `${this.y + y * this.scale}px`;
      this.box.style.width = `${across * this.scale}px`;
      this.box.style.height = `${down * this.scale}px`;
    }
    this.dispatchEvent(new Event("zoom"));
  }

  at(event) {
    const box = this.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  inPicture(point) {
    return {
      x: clamp(Math.round((point.x - this.x) / this.scale), 0, this.size.width),
      y: clamp(Math.round((point.y - this.y) / this.scale), 0, this.size.height),
    };
  }

  wheel(event) {
    if (!this.size) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    this.zoomBy(Math.exp(-clamp(event.deltaY * lines, -200, 200) / 400), this.at(event));
  }

  down(event) {
    if (!this.size || event.target.closest("button") || event.button > 0) return;
    const point = this.at(event);
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, point);
    if (this.pointers.size === 2) {
      this.action = "pinch";
      return;
    }
    if (this.drawing) {
      this.action = "draw";
      this.corner = this.inPicture(point);
    } else if (this.comparing && (Math.abs(point.x - this.line) < NEAR || !this.stage.classList.contains("zoomed"))) {
      this.action = "split";
      this.splitTo(point.x);
    } else {
      this.action = "pan";
    }
  }

  splitTo(x) {
    const { left, right } = this.extent;
    this.setSplit((x - left) / Math.max(1, right - left));
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const point = this.at(event);
    this.pointers.set(event.pointerId, point);
    if (this.action === "pinch" && this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const distance = (place) => Math.hypot(place.x - other.x, place.y - other.y) || 1;
      this.pan((point.x - before.x) / 2, (point.y - before.y) / 2);
      this.zoomBy(distance(point) / distance(before), { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 });
    } else if (this.action === "draw") {
      const end = this.inPicture(point);
      const x = Math.min(this.corner.x, end.x);
      const y = Math.min(this.corner.y, end.y);
      const width = Math.abs(this.corner.x - end.x);
      const height = Math.abs(this.corner.y - end.y);
      if (width && height) this.setRegion({ x, y, width, height });
    } else if (this.action === "split") {
      this.splitTo(point.x);
    } else if (this.action === "pan") {
      this.pan(point.x - before.x, point.y - before.y);
    }
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.action === "draw") this.setDrawing(false);
    this.action = this.pointers.size ? "pan" : null;
  }
}

// The keys of a viewer. Whether the key was one of them.
export const handleKey = (viewer, key) => {
  const far = 60;
  const moves = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
  if (key === "+" || key === "=") viewer.zoomBy(1.25);
  else if (key === "-" || key === "_") viewer.zoomBy(0.8);
  else if (key === "0") viewer.fit();
  else if (key === "1") viewer.full();
  else if (moves[key] && document.activeElement === viewer.stage) viewer.pan(...moves[key]);
  else return false;
  return true;
};

export const describeSplit = (share) => texts.splitValue(Math.round(share * 100));
