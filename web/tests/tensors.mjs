// safetensors files, made of numbers.

/** @typedef {"F32" | "F16" | "I8"} Type */

/**
 * A tensor's name, shape and values; null for zeros.
 * @typedef {[name: string, shape: number[], value: ((i: number) => number) | null]} Tensor
 */

/** Columns of an int8 matrix that share a scale. */
const BLOCK = 32;

/**
 * A file whose matrices have a type; int8 with scales, and then all else is f32.
 * @param {Tensor[]} tensors
 * @param {Type} type
 */
export function safetensors(tensors, type) {
  /** @type {Record<string, object>} */
  const header = {};
  /** @type {Buffer[]} */
  const parts = [];
  let at = 0;
  const add = (/** @type {string} */ name, /** @type {Type} */ dtype, /** @type {number[]} */ shape, /** @type {ArrayBufferView} */ data) => {
    header[name] = { dtype, shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
    parts.push(Buffer.from(data.buffer));
  };
  // Those of four bytes first, so that all are aligned.
  const order = type === "I8" ? tensors.toSorted((a, b) => Number(a[1].length > 1) - Number(b[1].length > 1)) : tensors;
  /** @type {[string, number[], Int8Array][]} */
  const rounded = [];
  for (const [name, shape, value] of order) {
    const values = Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, (_, i) => value?.(i) ?? 0);
    if (type === "F32" || (type === "I8" && shape.length === 1)) {
      add(name, "F32", shape, values);
    } else if (type === "F16") {
      add(name, "F16", shape, Uint16Array.from(values, half));
    } else {
      const [rows = 0, cols = 0] = shape;
      const blocks = Math.ceil(cols / BLOCK);
      const ints = new Int8Array(values.length);
      const scales = new Uint16Array(rows * blocks);
      for (let row = 0; row < rows; row++) {
        for (let block = 0; block < blocks; block++) {
          const begin = row * cols + block * BLOCK;
          const end = Math.min(begin + BLOCK, (row + 1) * cols);
          const largest = values.subarray(begin, end).reduce((max, x) => Math.max(max, Math.abs(x)), 0);
          // A power of two is exact in f16, and its doubling wastes less than a bit.
          const scale = 2 ** Math.ceil(Math.log2(Math.max(largest, 1e-3) / 127));
          scales[row * blocks + block] = half(scale);
          for (let i = begin; i < end; i++) {
            ints[i] = Math.round((values[i] ?? 0) / scale);
          }
        }
      }
      add(`${name}.scales`, "F16", [rows, blocks], scales);
      rounded.push([name, shape, ints]);
    }
  }
  for (const [name, shape, ints] of rounded) {
    add(name, "I8", shape, ints);
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (text.length % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, Buffer.from(text), ...parts]);
}

/**
 * The bits of an f16; what is too small for a normal number becomes zero.
 * @param {number} value
 */
function half(value) {
  const magnitude = Math.abs(value);
  if (magnitude < 2 ** -14) {
    return 0;
  }
  const exponent = Math.floor(Math.log2(magnitude));
  // Rounding up to the next power of two carries into the exponent, as it should.
  const bits = ((exponent + 15) << 10) + Math.round((magnitude / 2 ** exponent - 1) * 1024);
  return bits | (value < 0 ? 0x8000 : 0);
}

/**
 * @param {string} name
 * @param {number} dim
 * @returns {Tensor[]}
 */
export function norm(name, dim) {
  return [[`${name}.weight`, [dim], () => 1], [`${name}.bias`, [dim], null]];
}
