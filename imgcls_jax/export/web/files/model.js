// What answers, in the browser or on the server: {classify, logits, most}.
// classify(image, blob): {predictions: [{class, label, probability}], the most probable first; canvas, where it is known}
// logits(canvases): those of each, of at most `most` at a time

const TOP = 5;
const MOST_AT_ONCE = 16;

const waiting = new Map();
let worker;
let count = 0;

/** Have something done in the other thread. */
function work(kind, content, transfer = []) {
  worker ??= startWorker();
  return new Promise((resolve, reject) => {
    const id = count++;
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, kind, content }, transfer);
  });
}

function startWorker() {
  const made = new Worker(new URL("./work.js", import.meta.url), { type: "module" });
  made.addEventListener("message", ({ data: { id, made: result, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  });
  made.addEventListener("error", () => {
    for (const { reject } of waiting.values()) reject(new Error("the browser does not run its second thread"));
    waiting.clear();
  });
  return made;
}

/** The canvas of an image, whose pixels are given away. */
export function fit({ data, width, height }, recipe) {
  return work("fit", { image: { data, width, height }, recipe }, [data.buffer]);
}

function sorted(probabilities, about) {
  return probabilities
    .map((probability, label) => ({ class: about.class_names[label] ?? `output ${label}`, probability, label }))
    .sort((a, b) => b.probability - a.probability || a.label - b.label);
}

export async function inBrowser(about) {
  await work("load");
  const recipe = about.preprocessing;
  const run = async (canvases) => {
    const pixels = new Uint8Array(canvases.length * canvases[0].length);
    canvases.forEach((canvas, i) => pixels.set(canvas, i * canvas.length));
    const made = await work("run", { pixels, shape: [canvases.length, ...recipe.canvas, recipe.channels] });
    const rows = (values) => canvases.map((_, i) => {
      const size = values.length / canvases.length;
      return Array.from(values.subarray(i * size, (i + 1) * size));
    });
    return { logits: rows(made.logits), probabilities: rows(made.probabilities) };
  };
  window.imgcls = {
    // For tests, and for the curious.
    async run(image) {
      const made = await run([await fit(image, recipe)]);
      return { probabilities: made.probabilities[0], logits: made.logits[0] };
    },
  };
  return {
    async classify(image) {
      const canvas = await fit(image, recipe);
      const [probabilities] = (await run([canvas])).probabilities;
      return { predictions: sorted(probabilities, about).slice(0, about.thresholds ? Infinity : TOP), canvas };
    },
    logits: async (canvases) => (await run(canvases)).logits,
    most: MOST_AT_ONCE,
  };
}

export function onServer(about) {
  async function ask(query, body, { headers, isPatient = false }) {
    let answer;
    try {
      answer = await fetch(`predict?${query}`, { method: "POST", body, headers });
    } catch {
      throw new Error("The server does not answer.");
    }
    if (answer.status === 503 && isPatient) {
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      return ask(query, body, { headers, isPatient });
    }
    const content = await answer.json();
    if (!answer.ok) throw new Error(`The server refuses: ${content.error.message}.`);
    return content.results;
  }
  window.imgcls = {};
  return {
    async classify(_, blob) {
      const top = about.thresholds ? about.thresholds.length : TOP;
      const [result] = await ask(`top_k=${top}`, blob, {
        headers: { "Content-Type": "application/octet-stream" },
      });
      return { predictions: result.predictions };
    },
    async logits(canvases) {
      const form = new FormData();
      for (const canvas of canvases) form.append("image", await png(canvas, about.preprocessing));
      const results = await ask("top_k=1&logits=true", form, { isPatient: true });
      const bad = results.find((result) => result.error);
      if (bad) throw new Error(`The server refuses: ${bad.error.message}.`);
      return results.map((result) => result.logits);
    },
    most: about.batch,
  };
}

/** A file of a canvas, which decodes to the same pixels. */
function png(pixels, { canvas: [height, width], channels }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[i * channels + (channels === 1 ? 0 : c)];
    image.data[4 * i + 3] = 255;
  }
  const drawn = document.createElement("canvas");
  [drawn.width, drawn.height] = [width, height];
  drawn.getContext("2d").putImageData(image, 0, 0);
  return new Promise((resolve) => drawn.toBlob(resolve, "image/png"));
}
