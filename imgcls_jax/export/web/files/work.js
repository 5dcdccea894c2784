// What takes long, in a thread of its own, so that the page goes on to answer: fitting an image, and running the model.

import { toCanvas } from "./pixels.js";

let ort;
let session;
let last = Promise.resolve(); // one piece of work after the other: a session does not run twice at once

const WORK = {
  async load() {
    ort = await import("./ort.wasm.min.mjs");
    ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
    ort.env.wasm.numThreads = 1; // several need headers that a static host does not send
    session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  },

  fit: ({ image, recipe }) => toCanvas(image, recipe),

  /** From the pixels of canvases to {logits, probabilities}, those of all canvases in a row. */
  async run({ pixels, shape }) {
    const made = await session.run({ image: new ort.Tensor("uint8", pixels, shape) });
    return { logits: made.logits.data.slice(), probabilities: made.probabilities.data.slice() };
  },
};

self.addEventListener("message", ({ data: { id, kind, content } }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id, made: await WORK[kind](content) });
    } catch (error) {
      self.postMessage({ id, error: error.message });
    }
  });
});
