// The page: from a chosen photograph to its download.

import * as server from "/page/server.js";
import { texts } from "/page/texts.js";
import { Viewer, describeSplit, handleKey } from "/page/viewer.js";

const $ = (id) => document.getElementById(id);
const viewer = new Viewer($("stage"));
const numbers = { x: $("regionX"), y: $("regionY"), width: $("regionW"), height: $("regionH") };

let limits = null;
let file = null; // the chosen photograph
let local = null; // whether this browser shows it: true, false, or null while it tries
let job = null; // of the server: {id, stop, steps, fetched}
let sending = null; // the request that sends the photograph
let saved = null; // the finished file: {blob, name}
let typing = false; // whether the region comes from the numbers
let run = 0; // grows with every start and cancellation, so that late replies are recognised

// Texts and choices

for (const element of document.querySelectorAll("[data-text]")) element.textContent = texts[element.dataset.text];
for (const element of document.querySelectorAll("[data-label]")) {
  element.setAttribute("aria-label", texts[element.dataset.label]);
  if (element.tagName === "BUTTON") element.title = texts[element.dataset.label];
}

for (const [value, [name, hint]] of Object.entries(texts.qualities)) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "quality", value });
  const title = document.createElement("b");
  const detail = document.createElement("small");
  title.textContent = name;
  detail.textContent = hint;
  label.append(input, title, detail);
  $("qualities").append(label);
}
$("form").elements.quality.value = "good";

for (const [value, name] of [["keep", texts.keep], ...Object.entries(texts.formats)]) {
  $("format").append(new Option(name, value));
}

server.limits().then(
  (told) => {
    limits = told;
    $("accepted").textContent = texts.accepted(told);
    $("file").accept = `image/*,${told.reads.join(",")}`;
    $("form").elements.quality.value = told.quality;
  },
  (error) => complain(error.message),
);

// Messages

function complain(message) {
  const place = document.body.dataset.state === "empty" ? $("startError") : $("error");
  place.textContent = message;
  place.hidden = !message;
}

let spokenLast = "";
function speak(line) {
  if (line === spokenLast) return;
  spokenLast = line;
  $("spoken").textContent = line;
}

function tell(line, percent, spoken = line) {
  $("progressBox").hidden = false;
  $("status").textContent = line;
  if (percent === null) $("progress").removeAttribute("value");
  else $("progress").value = percent;
  speak(spoken);
}

// A photograph is chosen, dropped or pasted

async function take(files, quiet = false) {
  const [chosen] = files;
  if (!chosen) return;
  complain("");
  if (limits && chosen.size > limits.upload) return complain(texts.tooLarge(chosen.size, limits.upload));
  stop();
  file = chosen;
  local = null;
  saved = null;
  document.body.dataset.state = "ready";
  viewer.reset();
  $("unseen").hidden = true;
  $("name").textContent = file.name;
  $("model").textContent = "";
  show("ready");
  if (files.length > 1 && !quiet) complain(texts.several);
  const mine = file;
  const seen = await viewer.put("before", "photograph", file, texts.beforeAlt);
  if (mine !== file) return;
  local = seen;
  $("unseen").hidden = local;
  if (local) named();
  $("deblur").focus({ preventScroll: true });
}

function named(name = file.name) {
  $("name").textContent = texts.size(name, viewer.size?.width, viewer.size?.height);
}

$("choose").addEventListener("click", () => $("file").click());
$("another").addEventListener("click", () => {
  stop();
  file = null;
  viewer.reset();
  document.body.dataset.state = "empty";
  complain("");
  $("choose").focus();
});
$("file").addEventListener("change", () => {
  take([...$("file").files]);
  $("file").value = "";
});
$("sample").addEventListener("click", async () => {
  try {
    take([new File([await server.sample()], texts.sampleName, { type: "image/webp" })]);
  } catch (error) {
    complain(error.message);
  }
});

let depth = 0; // of elements that something is dragged over
const hasFiles = (event) => [...event.dataTransfer.types].includes("Files");
const dropping = (on) => document.body.classList.toggle("dropping", on);
addEventListener("dragenter", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  depth += 1;
  dropping(true);
});
addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) dropping(false);
});
addEventListener("dragover", (event) => {
  if (hasFiles(event)) event.preventDefault();
});
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  depth = 0;
  dropping(false);
  take([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) {
    event.preventDefault();
    take(files);
  }
});

// Settings

$("strength").addEventListener("input", showStrength);
function showStrength() {
  const value = texts.percent($("strength").value);
  $("strengthValue").textContent = value;
  $("strength").setAttribute("aria-valuetext", value);
}
showStrength();

$("draw").addEventListener("click", () => viewer.setDrawing(!viewer.drawing));
viewer.addEventListener("drawing", () => {
  $("draw").setAttribute("aria-pressed", String(viewer.drawing));
  $("draw").textContent = viewer.drawing ? texts.drawing : texts.draw;
});
$("everywhere").addEventListener("click", () => {
  viewer.setRegion(null);
  $("draw").focus();
});
viewer.addEventListener("region", () => {
  for (const [name, input] of Object.entries(numbers)) {
    if (!typing) input.value = viewer.region ? viewer.region[name] : "";
  }
  $("everywhere").hidden = !viewer.region;
});
for (const input of Object.values(numbers)) {
  input.addEventListener("input", () => {
    const { x, y, width, height } = given();
    const whole = [x, y, width, height].every(Number.isInteger) && width > 0 && height > 0;
    typing = true;
    viewer.setRegion(whole ? { x, y, width, height } : null);
    typing = false;
  });
}

// The four numbers as they stand; NaN for an empty one.
function given() {
  return Object.fromEntries(Object.entries(numbers).map(([name, input]) => [name, input.valueAsNumber]));
}

function options() {
  const wanted = {
    quality: $("form").elements.quality.value,
    strength: Number($("strength").value) / 100,
    format: $("format").value,
  };
  const empty = Object.values(numbers).every((input) => input.value === "" && !input.validity.badInput);
  if (!viewer.region && !empty) throw new Error(texts.noRegion);
  if (viewer.region) {
    const { x, y, width, height } = viewer.region;
    wanted.region = [x, y, width, height].join(",");
  }
  return wanted;
}

// Deblurring

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (file && !job && !sending) start();
});
$("cancel").addEventListener("click", () => {
  stop();
  show("ready");
  tell(texts.cancelled, 0);
  $("deblur").focus();
});

async function start() {
  complain("");
  let wanted;
  try {
    wanted = options();
  } catch (error) {
    return complain(error.message);
  }
  run += 1;
  const mine = run;
  saved = null;
  viewer.setDrawing(false);
  viewer.clear("after");
  showSteps(0, 0);
  show("running");
  tell(texts.sending(0), 0);
  $("cancel").focus({ preventScroll: true });
  $("stage").scrollIntoView({ block: "nearest" });
  sending = server.create(file, wanted, (share) => {
    if (share < 1) tell(texts.sending(Math.floor(100 * share)), 100 * share, texts.sending(0));
    else tell(texts.checking, null);
  });
  try {
    const first = await sending;
    sending = null;
    if (mine !== run) return void server.discard(first.id);
    const mineToo = { id: first.id, name: first.name, fetched: 0, frame: 0, original: false, busy: null };
    job = mineToo;
    job.stop = server.follow(first.id, (snapshot) => update(mineToo, snapshot), (line) => fail(mineToo, line));
    update(job, first);
  } catch (error) {
    sending = null;
    if (mine !== run || error.name === "AbortError") return;
    show("ready");
    complain(error.message);
  }
}

function fail(which, line) {
  if (job !== which) return;
  job.stop();
  job = null;
  show("ready");
  complain(line);
}

// A snapshot of the server: tell it, and fetch new views one after the other.
function update(which, snapshot) {
  if (job !== which) return;
  which.snapshot = snapshot;
  describe(snapshot);
  if (snapshot.phase === "failed") return fail(which, snapshot.error);
  which.busy ??= refresh(which).finally(() => (which.busy = null));
}

function describe(snapshot) {
  const { phase, place, share, steps, seconds } = snapshot;
  $("notices").hidden = !snapshot.notices.length;
  $("notices").replaceChildren(
    ...snapshot.notices.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
  );
  if (snapshot.model) $("model").textContent = snapshot.model;
  if (phase === "waiting") return tell(texts.waiting(place), null);
  if (phase === "done") return tell(texts.fetching, 100);
  if (!steps) return tell(texts.loading, null);
  let line;
  let spoken;
  if (snapshot.in_turn) {
    const step = Math.min(steps, Math.floor(share * steps + 1e-6) + 1);
    const within = Math.max(0, Math.min(100, Math.round(100 * (share * steps - step + 1))));
    line = texts.iteration(step, steps, within);
    spoken = texts.iteration(step, steps, within - (within % 25));
  } else {
    const percent = Math.round(100 * share);
    line = texts.rows(steps, percent);
    spoken = texts.rows(steps, percent - (percent % 25));
  }
  if (share > 0.02 && share < 1 && seconds > 2) line += `, ${texts.left((seconds * (1 - share)) / share)}`;
  tell(line, 100 * share, spoken);
}

async function refresh(which) {
  try {
    while (job === which && (await fetchNext(which)));
  } catch (error) {
    fail(which, error.message);
  }
}

// Fetch the next view that is there; whether there may be more.
async function fetchNext(which) {
  const { phase, viewable, ready, steps, frame, frame_step: frameStep, width, height } = which.snapshot;
  if (viewable && !which.original) {
    which.original = true;
    const blob = await server.view(which.id, "before");
    if (job !== which) return false;
    $("unseen").hidden = true;
    viewer.setSize(width, height);
    await viewer.put("before", "photograph", blob, texts.beforeAlt);
    named();
    return true;
  }
  if (which.fetched < ready) {
    const step = which.fetched + 1;
    const following = step === 1 || viewer.shownStep === "frame" || viewer.shownStep === `step${step - 1}`;
    const blob = await server.view(which.id, `step${step}`);
    if (job !== which || !(await viewer.put("after", `step${step}`, blob, texts.afterAlt(step)))) return false;
    which.fetched = step;
    showSteps(step, steps);
    if (following) showStep(step);
    return true;
  }
  if (phase === "done") {
    await finish(which);
    return false;
  }
  if (frame > which.frame && frameStep > ready) {
    which.frame = frame;
    const following = viewer.shownStep === null || viewer.shownStep === "frame" || viewer.shownStep === `step${ready}`;
    const blob = await server.view(which.id, "frame");
    if (job !== which || which.snapshot.ready >= frameStep) return true;
    await viewer.put("after", "frame", blob, texts.inWorkAlt);
    if (following) {
      viewer.show("frame");
      $("afterTag").textContent = texts.inWork;
    }
    return true;
  }
  return false;
}

async function finish(which) {
  const blob = await server.result(which.id);
  if (job !== which) return;
  saved = { blob, name: which.name };
  job = null;
  show("done");
  tell(texts.done(which.snapshot.seconds), 100);
  $("download").focus({ preventScroll: true });
}

// Stop what is running, if anything, on this page and on the server.
function stop() {
  run += 1;
  sending?.abort();
  sending = null;
  if (job) {
    job.stop();
    server.discard(job.id);
    job = null;
    viewer.clear("after");
    showSteps(0, 0);
  }
}

addEventListener("pagehide", stop);

$("download").addEventListener("click", () => {
  if (!saved) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(saved.blob);
  link.download = saved.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
});

// "ready", "running" or "done".
function show(state) {
  document.body.dataset.state = state;
  $("deblur").hidden = state === "running";
  $("deblur").textContent = state === "done" ? texts.again : texts.deblur;
  $("deblur").classList.toggle("primary", state !== "done");
  $("cancel").hidden = state !== "running";
  $("settings").disabled = state === "running";
  $("download").hidden = state !== "done";
  $("notices").hidden = state === "ready" || $("notices").hidden;
  if (state === "ready") {
    $("progressBox").hidden = true;
    viewer.clear("after");
    showSteps(0, 0);
  }
}

// The two sliders, zoom and keys

function showSplit() {
  $("split").value = Math.round(viewer.split * 100);
  $("split").setAttribute("aria-valuetext", describeSplit(viewer.split));
}
viewer.addEventListener("split", showSplit);
$("split").addEventListener("input", () => viewer.setSplit($("split").valueAsNumber / 100));
showSplit();

function showSteps(fetched, steps) {
  $("stepRow").hidden = steps < 2 || !fetched;
  $("step").max = Math.max(1, fetched);
  $("stepTicks").replaceChildren(...Array.from({ length: fetched + 1 }, (_, step) => new Option("", step)));
  $("step").dataset.steps = steps;
}

function showStep(step) {
  $("step").value = step;
  const value = texts.stepValue(step, $("step").dataset.steps);
  $("stepValue").textContent = value;
  $("step").setAttribute("aria-valuetext", value);
  viewer.show(step ? `step${step}` : "none");
  $("afterTag").textContent = Number($("step").dataset.steps) > 1 && step ? texts.afterStep(step) : texts.after;
}
$("step").addEventListener("input", () => showStep($("step").valueAsNumber));

viewer.addEventListener("zoom", () => {
  $("zoomValue").textContent = viewer.size ? texts.percent(viewer.percent) : "";
  $("zoomFit").setAttribute("aria-pressed", String(viewer.fitted));
  $("splitRow").classList.toggle("idle", !viewer.comparing);
  $("split").disabled = !viewer.comparing;
});
$("zoomIn").addEventListener("click", () => viewer.zoomBy(1.25));
$("zoomOut").addEventListener("click", () => viewer.zoomBy(0.8));
$("zoomFit").addEventListener("click", () => viewer.fit());
$("zoomFull").addEventListener("click", () => viewer.full());

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && viewer.drawing) return viewer.setDrawing(false);
  const writes = event.target.closest?.("input[type=number], select, textarea");
  if (document.body.dataset.state === "empty" || writes || event.ctrlKey || event.metaKey || event.altKey) return;
  if (handleKey(viewer, event.key)) event.preventDefault();
});
