// The page: images come in by a file, a drop, the clipboard or the camera; the model, here or on the server, answers.

import { toCanvas } from "./pixels.js";

const TOP = 5;
const MOST_PIXELS = 50_000_000;
const by = (id) => document.getElementById(id);

let about; // what is known of the model, a promise
let turn = 0; // of the newest image, as answers may come late

function fail(message) {
  by("error").textContent = message;
  by("error").hidden = false;
  by("status").hidden = true;
  by("classes").hidden = true;
  by("classes").replaceChildren();
}

function say(message) {
  by("error").hidden = true;
  by("status").hidden = false;
  by("status").textContent = message;
}

function show(predictions, milliseconds) {
  const list = by("classes");
  list.replaceChildren(
    ...predictions.map((prediction) => {
      const item = document.createElement("li");
      const [name, share] = ["class", "share"].map((kind) => {
        const part = document.createElement("span");
        part.className = kind;
        return part;
      });
      name.textContent = prediction.class;
      share.textContent = `${(100 * prediction.probability).toFixed(1)} %`;
      item.style.setProperty("--share", `${100 * prediction.probability}%`);
      item.append(name, " ", share);
      return item;
    })
  );
  list.hidden = false;
  say(`Answered in ${Math.round(milliseconds)} ms.`);
  // Read out where it is not seen; the list says it to the eye.
  const first = document.createElement("span");
  first.className = "unseen";
  first.textContent = `${predictions[0].class}, ${(100 * predictions[0].probability).toFixed(1)} %. `;
  by("status").prepend(first);
}

/** Draw what is classified, in the size of the original. */
function draw(source, width, height) {
  if (width * height > MOST_PIXELS) {
    throw new Error(`The image has ${(width * height / 1e6).toFixed(0)} megapixels; the most are ${MOST_PIXELS / 1e6}.`);
  }
  const canvas = by("picture");
  canvas.width = width;
  canvas.height = height;
  // Not a canvas of the graphics card, which may round in its own way.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.clearRect(0, 0, width, height);
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** The pixels of an image, drawn; undefined where the browser cannot read it, as a server perhaps can. */
async function decode(blob) {
  let bitmap;
  try {
    // As it is stored: neither color profiles nor gamma are applied, as in training.
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    return undefined;
  }
  const image = draw(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  return image;
}

async function open(blob, name) {
  const own = ++turn;
  stopCamera();
  say("Reading the image …");
  try {
    const image = await decode(blob);
    if (own !== turn) return;
    by("picture").hidden = !image;
    by("hint").hidden = Boolean(image);
    if (!image && (await about).where === "browser") {
      throw new Error(`${name} cannot be read as an image by this browser.`);
    }
    by("picture").setAttribute("aria-label", `The image ${name}`);
    say("Loading the model …");
    const classify = await model; // an image that comes before it waits
    if (own !== turn) return;
    say("Classifying …");
    await new Promise((resolve) => setTimeout(resolve)); // so that the image is seen before the work begins
    const started = performance.now();
    const predictions = await classify(image, blob);
    if (own === turn) show(predictions, performance.now() - started);
  } catch (error) {
    if (own === turn) fail(error.message);
  }
}

// ---- the model

async function inBrowser(about) {
  const ort = await import("./ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
  ort.env.wasm.numThreads = 1; // several need headers that a static host does not send
  const session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  const [height, width] = about.preprocessing.canvas;
  const shape = [1, height, width, about.preprocessing.channels];
  const run = async (image) => {
    const made = await session.run({ image: new ort.Tensor("uint8", toCanvas(image, about.preprocessing), shape) });
    return { probabilities: Array.from(made.probabilities.data), logits: Array.from(made.logits.data) };
  };
  window.imgcls = { run }; // for tests, and for the curious
  return async (image) => {
    const { probabilities } = await run(image);
    return probabilities
      .map((probability, label) => ({ class: about.class_names[label] ?? `output ${label}`, probability, label }))
      .sort((a, b) => b.probability - a.probability || a.label - b.label)
      .slice(0, TOP);
  };
}

function onServer() {
  return async (_, blob) => {
    let answer;
    try {
      const headers = { "Content-Type": "application/octet-stream" };
      answer = await fetch(`predict?top_k=${TOP}`, { method: "POST", body: blob, headers });
    } catch {
      throw new Error("The server does not answer.");
    }
    const content = await answer.json();
    if (!answer.ok) throw new Error(`The server refuses: ${content.error.message}.`);
    return content.results[0].predictions;
  };
}

async function load() {
  about = fetch("about.json").then((answer) => answer.json());
  const known = await about;
  describe(known);
  return known.where === "browser" ? inBrowser(known) : onServer();
}

/** Say what the model is. */
function describe(about) {
  by("name").textContent = about.name;
  document.title = `Classify an image: ${about.name}`;
  const names = about.class_names;
  by("about").textContent =
    names.length > 8
      ? `Tells ${names.length.toLocaleString("en")} classes apart, such as ${names.slice(0, 3).join(", ")}.`
      : `Tells apart: ${names.join(", ")}.`;
  const [height, width] = about.preprocessing.canvas;
  const color = about.preprocessing.channels === 1 ? "gray" : "color";
  const rows = {
    Input: `${width} × ${height} pixels, ${color}; resized by a ${about.preprocessing.interpolation} filter`,
    Written: `${about.written} by imgcls_jax ${about.version}`,
    "License of the weights": about.license,
  };
  if (about.runtime) rows["Runs with"] = about.runtime;
  by("details").replaceChildren(
    ...Object.entries(rows).flatMap(([term, value]) => {
      const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag));
      dt.textContent = term;
      dd.textContent = value;
      return [dt, dd];
    })
  );
  by("where").textContent = about.where === "browser"
    ? "The model runs in this browser: images stay on this device."
    : "Images are sent to the server that this page comes from, which classifies them and keeps none.";}

// ---- the camera

let stream;

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = undefined;
  by("video").hidden = by("shoot").hidden = by("stop").hidden = true;
  by("choose").hidden = by("camera").hidden = false;
  by("hint").hidden = !by("picture").hidden;
}

by("camera").addEventListener("click", async () => {
  try {
    if (!navigator.mediaDevices) throw new Error("it is allowed on https:// and localhost only");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    fail(`There is no camera: ${error.message || error.name}.`);
    return;
  }
  turn++;
  by("video").srcObject = stream;
  await by("video").play();
  by("picture").hidden = by("hint").hidden = by("choose").hidden = by("camera").hidden = true;
  by("video").hidden = by("shoot").hidden = by("stop").hidden = false;
  by("shoot").focus();
});

by("stop").addEventListener("click", () => {
  stopCamera();
  by("camera").focus();
});

by("shoot").addEventListener("click", async () => {
  const video = by("video");
  draw(video, video.videoWidth, video.videoHeight);
  const blob = await new Promise((resolve) => by("picture").toBlob(resolve, "image/png"));
  by("file").value = "";
  stopCamera();
  by("camera").focus();
  await open(blob, "from the camera");
});

// ---- files, drops, the clipboard

function openFirst(files) {
  const [file] = files;
  if (file) open(file, file.name);
}

by("file").addEventListener("change", () => openFirst(by("file").files));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    by("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) by("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  by("drop").classList.remove("over");
  by("file").value = ""; // which would go on to show the name of an older one
  openFirst(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => openFirst(event.clipboardData.files));

/** A promise of the function from an image to [{class, probability}], the most probable first. */
const model = load();
model.then(
  () => document.body.setAttribute("data-ready", ""),
  (error) => fail(`The model cannot be loaded: ${error.message}`)
);
