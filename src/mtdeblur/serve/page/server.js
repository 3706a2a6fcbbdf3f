// The requests to the server. Every failure is an Error whose message is one line for the user.

import { texts } from "/page/texts.js";

const reasonOf = (status, body) => {
  try {
    return JSON.parse(body).error || texts.failed(status);
  } catch {
    return texts.failed(status);
  }
};

const get = async (path) => {
  let reply;
  try {
    reply = await fetch(path);
  } catch {
    throw new Error(texts.offline);
  }
  if (!reply.ok) throw new Error(reasonOf(reply.status, await reply.text()));
  return reply;
};

const path = (id, rest = "") => `/api/jobs/${encodeURIComponent(id)}${rest}`;

export const limits = async () => (await get("/api/limits")).json();

export const sample = async () => (await get("/page/sample.webp")).blob();

// Send a photograph; `sent` receives the share that is sent. The promise has an `abort` method.
export const create = (file, options, sent) => {
  const request = new XMLHttpRequest();
  const promise = new Promise((resolve, reject) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(options)) form.append(name, value);
    form.append("file", file, file.name);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) sent(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(JSON.parse(request.responseText));
      else reject(new Error(reasonOf(request.status, request.responseText)));
    });
    request.addEventListener("error", () => reject(new Error(texts.offline)));
    request.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    request.open("POST", "/api/jobs");
    request.send(form);
  });
  promise.abort = () => request.abort();
  return promise;
};

// Follow a job until it is over: `told` receives every snapshot, `lost` a message. Returns a function that stops.
export const follow = (id, told, lost) => {
  const source = new EventSource(path(id, "/events"));
  let over = false;
  source.addEventListener("message", (event) => {
    const snapshot = JSON.parse(event.data);
    over = snapshot.phase === "done" || snapshot.phase === "failed";
    if (over) source.close();
    told(snapshot);
  });
  source.addEventListener("error", async () => {
    if (over) return;
    try {
      await get(path(id)); // the browser connects again by itself
    } catch (error) {
      if (!over) lost(error.message);
      over = true;
      source.close();
    }
  });
  return () => {
    over = true;
    source.close();
  };
};

export const view = async (id, name) => (await get(path(id, `/views/${name}`))).blob();

export const result = async (id) => (await get(path(id, "/result"))).blob();

export const discard = (id) => fetch(path(id), { method: "DELETE", keepalive: true }).catch(() => {});
