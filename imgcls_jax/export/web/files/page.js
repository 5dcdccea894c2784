// The page: images come in by a file, a drop, the clipboard or the camera; the model, here or on the server, answers.

import * as evidence from "./evidence.js";
import { fit, inBrowser, onServer } from "./model.js";

const MOST_LABELS = 12; // that are listed, unless more are chosen
const SMALL = 280; // pixels per side, up to which an image is enlarged
const PATIENCE = 250; // ms that a batch of blanked images may take, as a new image waits for it
const MOST_PIXELS = 50_000_000;
const by = (id) => document.getElementById(id);

let about; // what is known of the model, a promise
let turn = 0; // of the newest image, as answers may come late
let search = 0; // of the newest explanation, likewise
let shown; // what is known of the image that is shown: {predictions, canvas, rows}

function fail(message) {
  hideEvidence();
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

/** An element with a class and a text. */
function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function show(predictions, milliseconds, { thresholds }) {
  // As the server and Python compare them: in float32.
  const isChosen = ({ label, probability }) => probability >= Math.fround(thresholds[label]);
  const chosen = thresholds ? predictions.filter(isChosen) : predictions.slice(0, 1);
  const listed = thresholds ? predictions.filter((one, i) => i < MOST_LABELS || isChosen(one)) : predictions;
  const list = by("classes");
  list.replaceChildren(
    ...listed.map((prediction) => {
      const item = element("li", chosen.includes(prediction) ? "chosen" : "", "");
      item.style.setProperty("--share", `${100 * prediction.probability}%`);
      const share = element("span", "share", percent(prediction.probability));
      item.append(element("span", "class", prediction.class), " ", share);
      if (thresholds) {
        const threshold = thresholds[prediction.label];
        item.style.setProperty("--threshold", `${100 * threshold}%`);
        share.append(element("span", "least", ` ${isChosen(prediction) ? "≥" : "<"} ${percent(threshold)}`));
        item.append(element("span", "threshold", ""));
        if (isChosen(prediction)) item.firstChild.prepend("✓ ");
      }
      return item;
    })
  );
  list.hidden = false;
  say(`Answered in ${Math.round(milliseconds)} ms.`);
  if (thresholds) {
    const names = chosen.map((one) => one.class).join(", ");
    by("status").prepend(element("strong", "", names || "No label reaches its threshold"), ". ");
  } else {
    // Read out where it is not seen; the list says it to the eye.
    const [first] = predictions;
    by("status").prepend(element("span", "unseen", `${first.class}, ${percent(first.probability)}. `));
  }
  return listed;
}

/** Draw what is classified, in the size of the original. */
function draw(source, width, height) {
  if (width * height > MOST_PIXELS) {
    throw new Error(`The image has ${(width * height / 1e6).toFixed(0)} megapixels; the most are ${MOST_PIXELS / 1e6}.`);
  }
  const canvas = by("picture");
  canvas.width = width;
  canvas.height = height;
  canvas.classList.toggle("small", Math.max(width, height) < SMALL);
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
  hideEvidence();
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
    const { classify } = await model; // an image that comes before it waits
    if (own !== turn) return;
    say("Classifying …");
    await new Promise((resolve) => setTimeout(resolve)); // so that the image is seen before the work begins
    const started = performance.now();
    const answer = await classify(image, blob);
    if (own !== turn) return;
    const predictions = show(answer.predictions, performance.now() - started, await about);
    shown = { predictions, canvas: answer.canvas };
    by("evidence").hidden = !image;
  } catch (error) {
    if (own === turn) fail(error.message);
  }
}

// ---- the model

async function load() {
  about = fetch("about.json").then((answer) => answer.json());
  const known = await about;
  describe(known);
  return known.where === "browser" ? inBrowser(known) : onServer(known);
}

/** Say what the model is. */
function describe(about) {
  by("name").textContent = about.name;
  document.title = `Classify an image: ${about.name}`;
  const names = about.class_names;
  const [kind, verb] = about.thresholds ? ["labels", "Finds"] : ["classes", "Tells apart"];
  by("about").textContent =
    names.length > 10
      ? `${verb} ${names.length.toLocaleString("en")} ${kind}, such as ${names.slice(0, 3).join(", ")}.`
      : `${verb}: ${names.join(", ")}.`;
  by("thresholds").hidden = !about.thresholds;
  if (about.thresholds) by("answer-title").textContent = "Labels";
  by("classes").classList.toggle("labels", Boolean(about.thresholds));
  const [height, width] = about.preprocessing.canvas;
  const color = about.preprocessing.channels === 1 ? "gray" : "color";
  const rows = {
    Input: `${width} × ${height} pixels, ${color}; resized by a ${about.preprocessing.interpolation} filter`,
    Written: `${about.written} by imgcls_jax ${about.version}`,
    "License of the weights": about.license,
  };
  if (about.runtime) rows["Runs with"] = about.runtime;
  by("details").replaceChildren(
    ...Object.entries(rows).flatMap(([term, value]) => [element("dt", "", term), element("dd", "", value)])
  );
  by("where").textContent = about.where === "browser"
    ? "The model runs in this browser: images stay on this device."
    : "Images are sent to the server that this page comes from, which classifies them and keeps none.";
}

// ---- the evidence

function hideEvidence() {
  search++;
  shown = undefined;
  for (const id of ["evidence", "map", "after", "quit", "progress"]) by(id).hidden = true;
  by("finding").textContent = ""; // never hidden, so that what is put there is read out
  by("before").hidden = by("explain").hidden = false;
  by("picture").classList.remove("gray");
}

/** Blank one place after the other, and collect the logits of each. */
async function explain() {
  const own = ++search;
  const { preprocessing: recipe } = await about;
  const { logits, most } = await model;
  if (own !== search) return;
  const picture = by("picture");
  const wanted = [null, ...evidence.places(recipe)]; // the image itself first
  by("progress").max = wanted.length;
  by("progress").value = 0;
  by("explain").hidden = true;
  by("finding").textContent = "";
  by("quit").hidden = by("progress").hidden = false;
  by("quit").focus();
  const now = shown;
  const rows = [];
  try {
    now.canvas ??= await fit(picture.getContext("2d").getImageData(0, 0, picture.width, picture.height), recipe);
    for (let batch = 1; rows.length < wanted.length && own === search; ) {
      const places = wanted.slice(rows.length, rows.length + batch);
      const started = performance.now();
      rows.push(...(await logits(places.map((place) => evidence.blanked(now.canvas, place, recipe)))));
      const each = (performance.now() - started) / places.length;
      batch = Math.max(1, Math.min(most, Math.round(PATIENCE / each)));
      if (own === search) by("progress").value = rows.length;
    }
    if (own !== search) return;
    now.rows = rows;
    by("of").replaceChildren(
      ...now.predictions.map((prediction) => {
        const option = element("option", "", prediction.class);
        option.value = prediction.label;
        return option;
      })
    );
    const isAtStop = document.activeElement === by("quit");
    by("before").hidden = true;
    by("after").hidden = false;
    by("over").checked = true;
    if (isAtStop) by("of").focus();
    await showEvidence();
  } catch (error) {
    if (own !== search) return;
    endSearch();
    by("finding").textContent = error.message;
  }
}

function endSearch() {
  search++;
  by("quit").hidden = by("progress").hidden = true;
  by("explain").hidden = false;
}

/** Show the evidence for the class that is chosen. */
async function showEvidence() {
  const known = await about;
  const { predictions, rows } = shown;
  const prediction = predictions.find(({ label }) => label === Number(by("of").value));
  const { label, class: name } = prediction;
  const [whole, ...others] = rows.map((logits) => evidence.logit(logits, label, known.task));
  const drops = others.map((one) => whole - one);
  window.imgcls.drops = drops;
  const all = evidence.places(known.preprocessing);
  const last = all[all.length - 1];
  const most = drops.indexOf(Math.max(...drops));
  const [before, after] = [rows[0], rows[1 + most]].map((logits) => evidence.probability(logits, label, known));
  by("finding").textContent =
    drops[most] > 0
      ? `Row ${all[most].row + 1}, column ${all[most].column + 1} of ${last.row + 1} × ${last.column + 1} places ` +
        `matters most: blanking it takes “${name}” from ${percent(before)} to ${percent(after)}.`
      : `No single place matters: whichever is blanked, the logit of “${name}” does not fall.`;
  const limit = Math.max(...drops.map(Math.abs)).toFixed(2);
  by("low").textContent = `−${limit}`;
  by("high").textContent = `+${limit}`;
  evidence.draw(by("map"), by("picture"), known.preprocessing, drops);
  fillTable(all, drops, most, name);
  showOver();
}

function showOver() {
  by("map").hidden = !by("over").checked;
  by("picture").classList.toggle("gray", by("over").checked);
}

function fillTable(all, drops, most, name) {
  const lines = [];
  all.forEach(({ row, column }, i) => {
    if (column === 0) lines.push([element("th", "", row + 1)]);
    const text = Number(drops[i].toFixed(2)).toFixed(2).replace("-", "−"); // no −0.00
    lines[row].push(element("td", i === most && drops[i] > 0 ? "most" : "", text));
  });
  const columns = lines[0].slice(1).map((_, column) => element("th", "", column + 1));
  columns.forEach((head) => head.setAttribute("scope", "col"));
  lines.forEach(([head]) => head.setAttribute("scope", "row"));
  const line = (cells) => {
    const made = document.createElement("tr");
    made.append(...cells);
    return made;
  };
  by("table").replaceChildren(
    element("caption", "", `How far the logit of “${name}” falls, by row and column`),
    line([element("td", "", ""), ...columns]),
    ...lines.map(line)
  );
}

by("explain").addEventListener("click", explain);
by("quit").addEventListener("click", () => {
  endSearch();
  by("explain").focus();
});
by("of").addEventListener("change", showEvidence);
by("over").addEventListener("change", showOver);

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
  hideEvidence();
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

by("file").addEventListener("click", () => (by("file").value = "")); // so that the same file may be chosen again
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

/** A promise of what answers. */
const model = load();
model.then(
  () => document.body.setAttribute("data-ready", ""),
  (error) => fail(`The model cannot be loaded: ${error.message}`)
);
