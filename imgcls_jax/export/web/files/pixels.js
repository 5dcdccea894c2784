// From the pixels of an image to the canvas that the network takes: Pillow's own arithmetic, so that the logits are those
// of Python. (Pillow: src/libImaging/Resample.c, Geometry.c and Convert.c; canvas: imgcls_jax/data/canvas.py.)

const BITS = 22; // of the fractions of a weight: 32 less 8 of a pixel and 2 of overshooting sums

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight: (x) => {
      const a = -0.5;
      x = Math.abs(x);
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (-3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Round halves to the even neighbor, as Python does. */
export function roundEven(x) {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** For each output pixel: the first input pixel, and the whole-number weights from there on. */
function weightsOf(from, to, filter) {
  const scale = from / to;
  const stretch = Math.max(scale, 1); // a filter for shrinking covers all that it shrinks
  const support = filter.support * stretch;
  return Array.from({ length: to }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(from, Math.trunc(center + support + 0.5));
    const weights = [];
    let sum = 0;
    for (let x = first; x < last; x++) {
      const weight = filter.weight((x - center + 0.5) / stretch);
      weights.push(weight);
      sum += weight;
    }
    return {
      first,
      weights: weights.map((weight) => {
        const share = sum === 0 ? weight : weight / sum;
        return Math.trunc((share < 0 ? -0.5 : 0.5) + share * 2 ** BITS);
      }),
    };
  });
}

/** Resample lines: `lines` of them, `lineStep` apart, whose pixels are `step` apart. */
function resampleAxis(source, target, plan, channels, lines, sourceSteps, targetSteps) {
  const [step, lineStep] = sourceSteps;
  const [targetStep, targetLineStep] = targetSteps;
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < plan.length; place++) {
      const { first, weights } = plan[place];
      for (let channel = 0; channel < channels; channel++) {
        let sum = 2 ** (BITS - 1);
        let at = line * lineStep + first * step + channel;
        for (let k = 0; k < weights.length; k++, at += step) sum += source[at] * weights[k];
        target[line * targetLineStep + place * targetStep + channel] = Math.min(255, Math.max(0, sum >> BITS));
      }
    }
  }
}

/**
 * Resize uint8 pixels [height, width, channels] to [toHeight, toWidth, channels] with a filter of Pillow's.
 * Which axis comes first changes a level here and there: rows, where Pillow from version 13 on shrinks mostly them.
 */
export function resize(pixels, height, width, channels, toHeight, toWidth, interpolation, pillow) {
  if (height === toHeight && width === toWidth) return pixels;
  if (interpolation === "nearest") return nearest(pixels, height, width, channels, toHeight, toWidth);
  const filter = FILTERS[interpolation];
  const isTall = height > toHeight && height - toHeight > 2 * (width - toWidth);
  const passes = [
    () => {
      if (toWidth === width) return;
      const target = new Uint8Array(height * toWidth * channels);
      const plan = weightsOf(width, toWidth, filter);
      const steps = [channels, width * channels];
      resampleAxis(pixels, target, plan, channels, height, steps, [channels, toWidth * channels]);
      [pixels, width] = [target, toWidth];
    },
    () => {
      if (toHeight === height) return;
      const target = new Uint8Array(toHeight * width * channels);
      const steps = [width * channels, channels];
      resampleAxis(pixels, target, weightsOf(height, toHeight, filter), channels, width, steps, steps);
      [pixels, height] = [target, toHeight];
    },
  ];
  if (pillow >= 13 && isTall) passes.reverse();
  passes.forEach((pass) => pass());
  return pixels;
}

function nearest(pixels, height, width, channels, toHeight, toWidth) {
  const places = (from, to) => {
    // Added up, not multiplied, as Pillow does: sums round in their own way.
    const found = [];
    for (let place = 0, at = (from / to) * 0.5; place < to; place++, at += from / to) {
      found.push(Math.min(from - 1, Math.trunc(at)));
    }
    return found;
  };
  const target = new Uint8Array(toHeight * toWidth * channels);
  const columns = places(width, toWidth);
  places(height, toHeight).forEach((y, row) => {
    columns.forEach((x, column) => {
      for (let channel = 0; channel < channels; channel++) {
        target[(row * toWidth + column) * channels + channel] = pixels[(y * width + x) * channels + channel];
      }
    });
  });
  return target;
}

/** The size to which an image is resized before it is cut or padded. */
export function resizedSize(h, w, [height, width], fit) {
  if (fit === "stretch") return [height, width];
  const isWide = w * height >= h * width;
  if (fit === "crop") {
    return isWide ? [height, Math.floor((w * height) / h)] : [Math.floor((h * width) / w), width];
  }
  return isWide
    ? [Math.max(1, roundEven((h / w) * width)), width]
    : [height, Math.max(1, roundEven((w / h) * height))];
}

/** Gray or color from RGBA; what is transparent lies on white. */
function flatten(rgba, channels) {
  const count = rgba.length / 4;
  const pixels = new Uint8Array(count * channels);
  for (let i = 0; i < count; i++) {
    const alpha = rgba[4 * i + 3];
    const [r, g, b] = [0, 1, 2].map((c) => {
      const value = rgba[4 * i + c];
      return alpha === 255 ? value : Math.round((value * alpha + 255 * (255 - alpha)) / 255);
    });
    if (channels === 1) {
      pixels[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16; // ITU-R 601, as Pillow's "L"
    } else {
      pixels.set([r, g, b], 3 * i);
    }
  }
  return pixels;
}

/**
 * Fit an image into the network's canvas.
 * @param {{data: Uint8ClampedArray, width: number, height: number}} image RGBA, upright
 * @param {{canvas: number[], channels: number, fit: string, interpolation: string, pillow: number}} recipe
 * @returns {Uint8Array} [height, width, channels]
 */
export function toCanvas(image, recipe) {
  const { channels } = recipe;
  const [height, width] = recipe.canvas;
  const [h, w] = resizedSize(image.height, image.width, recipe.canvas, recipe.fit);
  const flat = flatten(image.data, channels);
  const resized = resize(flat, image.height, image.width, channels, h, w, recipe.interpolation, recipe.pillow);
  // Positive: cut off; negative: black around it.
  const top = roundEven((h - height) / 2);
  const left = roundEven((w - width) / 2);
  const padTop = roundEven((height - h) * 0.5);
  const padLeft = roundEven((width - w) * 0.5);
  if (h === height && w === width) return resized;
  const canvas = new Uint8Array(height * width * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const fromY = recipe.fit === "crop" ? y + top : y - padTop;
      const fromX = recipe.fit === "crop" ? x + left : x - padLeft;
      if (fromY < 0 || fromX < 0 || fromY >= h || fromX >= w) continue;
      const at = (fromY * w + fromX) * channels;
      canvas.set(resized.subarray(at, at + channels), (y * width + x) * channels);
    }
  }
  return canvas;
}
