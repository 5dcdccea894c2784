// Where in an image the evidence for a class is: by how much the logit falls when one place after the other is blanked,
// which means set to the mean color of the training. Of any network, as only its outputs are looked at.

import { resizedSize, roundEven } from "./pixels.js";

const PLACES = 8; // per side; as many as there are pixels where an image is smaller

/** The part of the canvas that the network sees. */
function seen({ canvas: [height, width], image_size: [rows, columns], views }) {
  if (views.endsWith("_crop")) return { top: 0, left: 0, rows: height, columns: width }; // whose corners reach its border
  return { top: roundEven((height - rows) / 2), left: roundEven((width - columns) / 2), rows, columns };
}

/** The places that are blanked, row by row: {row, column, top, left, bottom, right}, pixels of the canvas. */
export function places(recipe) {
  const { top, left, rows, columns } = seen(recipe);
  const cuts = (start, length) => {
    const count = Math.min(PLACES, length);
    return Array.from({ length: count + 1 }, (_, i) => start + Math.floor((i * length) / count));
  };
  const [across, down] = [cuts(left, columns), cuts(top, rows)];
  return down.slice(1).flatMap((bottom, row) =>
    across.slice(1).map((right, column) => ({ row, column, top: down[row], left: across[column], bottom, right }))
  );
}

/** A copy of the canvas with a place blanked; null: with none. */
export function blanked(pixels, place, { canvas: [, width], channels, mean }) {
  const copy = pixels.slice();
  if (!place) return copy;
  const color = mean.map((value) => roundEven(255 * value));
  for (let y = place.top; y < place.bottom; y++) {
    for (let x = place.left; x < place.right; x++) copy.set(color, (y * width + x) * channels);
  }
  return copy;
}

/** The logit of a class; a sigmoid output z speaks for class 1, and −z for class 0. */
export function logit(logits, label, task) {
  return logits.length > 1 || task === "labels" ? logits[label] : (2 * label - 1) * logits[0];
}

/** The probability of a class from an image's logits. */
export function probability(logits, label, { task, temperature }) {
  const own = logit(logits, label, task);
  if (task === "labels" || logits.length === 1) return 1 / (1 + Math.exp(-own / temperature));
  return 1 / logits.reduce((sum, other) => sum + Math.exp((other - own) / temperature), 0);
}

/** Where the network's canvas lies on an image, in shares of the image's height and width. */
function onImage({ height, width }, recipe, { top, left, bottom, right }) {
  const [canvasHeight, canvasWidth] = recipe.canvas;
  const [h, w] = resizedSize(height, width, recipe.canvas, recipe.fit);
  // Cut off, or less than nothing where black is around the image.
  const offset = (resized, size) =>
    recipe.fit === "pad" ? -roundEven((size - resized) * 0.5) : roundEven((resized - size) / 2);
  const [down, across] = [offset(h, canvasHeight), offset(w, canvasWidth)];
  return { top: (top + down) / h, left: (left + across) / w, height: (bottom - top) / h, width: (right - left) / w };
}

const FOR = "230 97 1";
const AGAINST = "49 99 206";
const OPACITY = 0.8;

/**
 * Draw how much each place matters over an image: orange where the logit falls, blue where it rises, the more the less
 * transparent; a frame around the place of the greatest fall.
 * @param {HTMLCanvasElement} target lies over the picture, in a box of the picture's size
 * @param {{height: number, width: number}} image
 */
export function draw(target, image, recipe, drops) {
  const all = places(recipe);
  const last = all[all.length - 1];
  const box = onImage(image, recipe, { ...all[0], bottom: last.bottom, right: last.right });
  for (const [side, share] of Object.entries(box)) target.style[side] = `${100 * share}%`;
  const most = Math.max(...drops.map(Math.abs)) || 1;
  const scale = Math.ceil(640 / Math.max(last.bottom - all[0].top, last.right - all[0].left));
  const at = (y, x) => [(x - all[0].left) * scale, (y - all[0].top) * scale];
  [target.width, target.height] = at(last.bottom, last.right);
  const context = target.getContext("2d");
  all.forEach((place, i) => {
    const [x, y] = at(place.top, place.left);
    const [right, bottom] = at(place.bottom, place.right);
    context.fillStyle = `rgb(${drops[i] > 0 ? FOR : AGAINST} / ${(OPACITY * Math.abs(drops[i])) / most})`;
    context.fillRect(x, y, right - x, bottom - y);
  });
  const top = drops.indexOf(Math.max(...drops));
  if (drops[top] <= 0) return;
  const [x, y] = at(all[top].top, all[top].left);
  const [right, bottom] = at(all[top].bottom, all[top].right);
  for (const [color, width] of [["#000", 7], ["#fff", 3]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.strokeRect(x + 4, y + 4, right - x - 8, bottom - y - 8);
  }
}
