// Models with routers and random weights, to hold devices against each other: one of each family, pooling and type.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { norm, safetensors } from "./tensors.mjs";

const TOKENIZER = fileURLToPath(new URL("../../tests/data/tokenizer/", import.meta.url));
const DIM = 64;
const FFN = 96;
const LAYERS = 2;
const CONTEXT = 96;
const MAX_STEPS = { technical: 3, conversational: 5 };
const CLASS_STEPS = [1, 3, 5];

/** @typedef {import("./tensors.mjs").Tensor} Tensor */

/**
 * The files of a model.
 * @param {"technical" | "conversational"} family
 * @param {"sequence" | "real" | "prefix"} pooling
 * @param {import("./tensors.mjs").Type} type
 * @param {number} context
 * @returns {Map<string, Buffer>}
 */
export function routedModel(family, pooling, type, context = CONTEXT) {
  const tokenizer = readFileSync(`${TOKENIZER}tokenizer.json`);
  const vocabSize = Object.keys(JSON.parse(tokenizer.toString()).model.vocab).length;
  const random = generator(7);
  const matrix = (/** @type {string} */ name, /** @type {number} */ rows, /** @type {number} */ cols) => {
    // What routers see must differ from token to token for depth to do so.
    const limit = Math.sqrt(3 / (name === "embed" ? 1 : cols));
    return /** @type {Tensor} */ ([`${name}.weight`, [rows, cols], () => (2 * random() - 1) * limit]);
  };
  const linear = (/** @type {string} */ name, /** @type {number} */ rows, /** @type {number} */ cols) => [
    matrix(name, rows, cols),
    /** @type {Tensor} */ ([`${name}.bias`, [rows], () => 0.2 * random() - 0.1]),
  ];
  const tensors =
    family === "technical" ? technical(vocabSize, matrix, linear) : conversational(vocabSize, matrix, linear);
  const config = {
    model_type: `mor-${family}`,
    vocab_size: vocabSize,
    hidden_size: DIM,
    num_hidden_layers: LAYERS,
    num_attention_heads: 4,
    intermediate_size: FFN,
    max_position_embeddings: context,
    position_embedding_type: "rotary",
    tie_word_embeddings: false,
    pad_token_id: 0,
    routing: {
      kind: "adaptive",
      max_steps: MAX_STEPS[family],
      pooling,
      ...(family === "technical" ? { halted_rows: "freeze" } : { class_steps: CLASS_STEPS }),
    },
  };
  return new Map([
    ["config.json", Buffer.from(JSON.stringify(config))],
    ["tokenizer.json", tokenizer],
    ["tokenizer_config.json", readFileSync(`${TOKENIZER}tokenizer_config.json`)],
    ["model.safetensors", safetensors(tensors, type)],
  ]);
}

/**
 * @param {number} vocabSize
 * @param {(name: string, rows: number, cols: number) => Tensor} matrix
 * @param {(name: string, rows: number, cols: number) => Tensor[]} linear
 */
function technical(vocabSize, matrix, linear) {
  const tensors = [matrix("embeddings.token_embedding", vocabSize, DIM), ...norm("embeddings.layer_norm", DIM)];
  for (let layer = 0; layer < LAYERS; layer++) {
    const at = `layers.${layer}.`;
    tensors.push(...linear(`${at}router.complexity_classifier.0`, DIM / 4, DIM));
    tensors.push(...linear(`${at}router.complexity_classifier.3`, MAX_STEPS.technical + 1, DIM / 4));
    for (let step = 0; step < MAX_STEPS.technical; step++) {
      tensors.push(...linear(`${at}step_projections.${step}`, DIM, DIM));
    }
    for (const part of ["w_q", "w_k", "w_v"]) {
      tensors.push(matrix(`${at}attention.${part}`, DIM, DIM));
    }
    tensors.push(...linear(`${at}attention.w_o`, DIM, DIM), ...norm(`${at}norm1`, DIM));
    tensors.push(...linear(`${at}feedforward.linear1`, FFN, DIM), ...linear(`${at}feedforward.linear2`, DIM, FFN));
    tensors.push(...norm(`${at}norm2`, DIM));
  }
  return [...tensors, ...norm("final_norm", DIM), matrix("lm_head", vocabSize, DIM)];
}

/**
 * @param {number} vocabSize
 * @param {(name: string, rows: number, cols: number) => Tensor} matrix
 * @param {(name: string, rows: number, cols: number) => Tensor[]} linear
 */
function conversational(vocabSize, matrix, linear) {
  const tensors = [matrix("embed", vocabSize, DIM)];
  for (const at of [...Array.from({ length: LAYERS }, (_, layer) => `layers.${layer}`), "rec_layer.block"]) {
    tensors.push(...norm(`${at}.ln1`, DIM));
    for (const part of ["q_proj", "k_proj", "v_proj", "out_proj"]) {
      tensors.push(matrix(`${at}.attn.${part}`, DIM, DIM));
    }
    tensors.push(...norm(`${at}.ln2`, DIM), matrix(`${at}.ff.fc1`, FFN, DIM), matrix(`${at}.ff.fc2`, DIM, FFN));
  }
  tensors.push(...linear("router.pooler", DIM, DIM), ...linear("router.head.0", DIM / 2, DIM));
  tensors.push(...linear("router.head.3", CLASS_STEPS.length, DIM / 2));
  return [...tensors, ...norm("ln_f", DIM), matrix("lm_head", vocabSize, DIM)];
}

/**
 * Numbers in [0, 1), the same for the same seed (mulberry32).
 * @param {number} seed
 */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
