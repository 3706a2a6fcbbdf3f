// All English texts of the page.

const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;
const megapixels = (pixels) => `${Math.round(pixels / 1e5) / 10} megapixels`;

const duration = (seconds) => {
  if (seconds < 100) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
};

export const texts = {
  tagline: "Watch a photograph sharpen",
  another: "Another photograph",
  startLabel: "Choose a photograph",
  drop: "Drop a photograph here",
  dropHere: "Drop the photograph",
  choose: "Choose a photograph",
  sample: "Try a sample",
  sampleName: "coffee.webp",
  orPaste: "Or paste one from the clipboard.",
  accepted: (limits) =>
    `JPEG, PNG, TIFF, WebP, AVIF, HEIC and others, up to ${megabytes(limits.upload)} and ${megapixels(limits.pixels)}.`,
  privacy: "It is sent to this server only, and removed there as soon as you have the result.",

  workLabel: "Photograph and settings",
  stageLabel:
    "Before and after. Plus and minus zoom, 0 fits the picture, 1 shows 100 percent, arrow keys move it.",
  before: "Before",
  after: "After",
  afterStep: (step) => `After iteration ${step}`,
  inWork: "In progress",
  zoomLabel: "Zoom",
  zoomOut: "Zoom out",
  zoomIn: "Zoom in",
  zoomValue: "Size on the screen",
  fit: "Fit",
  fitLabel: "Fit the picture into the window",
  full: "1:1",
  fullLabel: "Show the picture at 100 percent",
  percent: (value) => `${value} %`,
  split: "Compare",
  splitValue: (value) => `${value} percent before, ${100 - value} percent after`,
  step: "Iteration",
  stepValue: (step, steps) => (step ? `${step} of ${steps}` : "the photograph"),
  unseen: "This browser cannot show this format. The server shows it as soon as the work begins.",
  beforeAlt: "The photograph before deblurring",
  afterAlt: (step) => `The photograph after iteration ${step}`,
  inWorkAlt: "The photograph while it is deblurred",

  settingsLabel: "Settings",
  quality: "Quality",
  qualities: {
    fast: ["Fast", "A second or so. Light blur."],
    good: ["Good", "Some seconds. Motion blur of all kinds."],
    best: ["Best", "Three steps, sharpest. May invent texture in soft pictures."],
  },
  strength: "Strength",
  region: "Region",
  draw: "Draw a rectangle",
  drawing: "Drag over the picture (Esc ends)",
  everywhere: "Everywhere",
  x: "Left",
  y: "Top",
  w: "Width",
  h: "Height",
  format: "File format",
  keep: "As the photograph",
  formats: {
    jpeg: "JPEG",
    png: "PNG, lossless",
    tiff: "TIFF, lossless",
    webp: "WebP",
    avif: "AVIF",
  },
  deblur: "Deblur",
  again: "Deblur again",
  cancel: "Cancel",
  download: "Download",
  size: (name, width, height) => (width ? `${name}, ${width} × ${height}` : name),

  progressLabel: "Progress",
  sending: (percent) => `Sending: ${percent} %`,
  checking: "Checking the photograph",
  waiting: (place) => (place === 1 ? "You are next in the queue" : `Number ${place} in the queue`),
  loading: "Loading the network",
  iteration: (step, steps, percent) =>
    steps > 1 ? `Iteration ${step} of ${steps}: ${percent} %` : `Deblurring: ${percent} %`,
  rows: (steps, percent) => `All ${steps} iterations, row by row: ${percent} %`,
  left: (seconds) => `about ${duration(seconds)} left`,
  fetching: "Fetching the result",
  done: (seconds) => `Done in ${duration(seconds)}. The server has removed its copies.`,
  cancelled: "Cancelled. The server has removed the photograph.",

  notAPicture: (name) => `${name} is not a picture that this server reads.`,
  tooLarge: (size, limit) => `The file has ${megabytes(size)}; this server accepts at most ${megabytes(limit)}.`,
  several: "One photograph at a time, please; the first one is taken.",
  noRegion: "The region needs all four numbers, or none.",
  offline: "The server cannot be reached. Is it still running?",
  failed: (status) => `The server answered with an error (${status}).`,
};
