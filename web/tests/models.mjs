// Model folders made for the tests: small, valid, and with answers known in advance.
//
// Each is a real model that the real engine runs. Position p's embedding is the p-th unit vector, token embeddings
// are zero, and the rows of the output head are sums of unit vectors: after position p comes exactly the token the
// script has there. Attention and feed-forward are zero, so any number of steps leaves that as it is and only costs
// the time that real steps cost.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { norm, safetensors } from "./tensors.mjs";

const TOKENIZER = fileURLToPath(new URL("../../tests/data/tokenizer/", import.meta.url));
const CONTEXT = 256;

/** The question whose prompt the scripts expect: one token, so `<bos><user>a<assistant>` ends at position 3. */
export const QUESTION = "a";
const FIRST = 3;

/** GPT-2's printable stand-ins for bytes. */
function byteAlphabet() {
  const printable = (/** @type {number} */ b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

const ALPHABET = byteAlphabet();

/** @param {string} file */
const read = (file) => readFileSync(TOKENIZER + file);

/**
 * @typedef {object} Shape
 * @property {number} [layers]
 * @property {number} [ffn]
 * @property {number} [maxSteps]
 * @property {number} [depth]
 * @property {number} [context] positions, and the width
 */

/**
 * The files of a model that answers [`QUESTION`] with `reply`, one byte a token.
 * @param {string} reply
 * @param {Shape} [shape]
 * @returns {Map<string, Buffer>}
 */
export function scriptedModel(reply, { layers = 2, ffn = 64, maxSteps = 4, depth = 2, context = CONTEXT } = {}) {
  const tokenizer = read("tokenizer.json");
  const vocab = JSON.parse(tokenizer.toString()).model.vocab;
  const vocabSize = Object.keys(vocab).length;
  const script = [...Buffer.from(reply)].map((byte) => vocab[ALPHABET[byte] ?? ""]);
  if (script.length > context - FIRST - 1) {
    throw new Error(`the reply has ${script.length} bytes; the context holds ${context - FIRST - 1}`);
  }
  const dim = context;
  const config = {
    model_type: "mor-technical",
    vocab_size: vocabSize,
    hidden_size: dim,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    intermediate_size: ffn,
    max_position_embeddings: context,
    position_embedding_type: "learned",
    tie_word_embeddings: false,
    pad_token_id: 0,
    routing: { kind: "fixed", max_steps: maxSteps, depth },
  };

  /** @type {import("./tensors.mjs").Tensor[]} */
  const tensors = [
    ["embeddings.token_embedding.weight", [vocabSize, dim], null],
    ["embeddings.pos_encoding.pos_embedding.weight", [context, dim], (i) => Number(Math.floor(i / dim) === i % dim)],
    ...norm("embeddings.layer_norm", dim),
  ];
  for (let layer = 0; layer < layers; layer++) {
    const at = `layers.${layer}.`;
    for (let step = 0; step < maxSteps; step++) {
      tensors.push(...linear(`${at}step_projections.${step}`, dim, dim));
    }
    for (const part of ["w_q", "w_k", "w_v"]) {
      tensors.push([`${at}attention.${part}.weight`, [dim, dim], null]);
    }
    tensors.push(...linear(`${at}attention.w_o`, dim, dim), ...norm(`${at}norm1`, dim));
    tensors.push(...linear(`${at}feedforward.linear1`, ffn, dim), ...linear(`${at}feedforward.linear2`, dim, ffn));
    tensors.push(...norm(`${at}norm2`, dim));
  }
  const after = (/** @type {number} */ position) => script[position - FIRST] ?? vocab["<eos>"];
  tensors.push(
    ...norm("final_norm", dim),
    ["lm_head.weight", [vocabSize, dim], (i) => Number(after(i % dim) === Math.floor(i / dim))],
  );

  return new Map([
    ["config.json", Buffer.from(JSON.stringify(config))],
    ["tokenizer.json", tokenizer],
    ["tokenizer_config.json", read("tokenizer_config.json")],
    ["model.safetensors", safetensors(tensors, "F16")],
    ["generation_config.json", Buffer.from(JSON.stringify({ do_sample: false, max_new_tokens: context }))],
    ["README.md", Buffer.from(CARD)],
  ]);
}

/**
 * What `mor export` would write as probe.json for a scripted model, or, unless `right`, something else.
 * @param {Map<string, Buffer>} files of the model
 * @param {string} reply
 * @param {boolean} right
 */
export function scriptedProbe(files, reply, right) {
  const vocab = JSON.parse(read("tokenizer.json").toString()).model.vocab;
  const { num_hidden_layers, routing, max_position_embeddings: context } = JSON.parse((files.get("config.json") ?? "").toString());
  const script = [...Buffer.from(reply)].map((byte) => vocab[ALPHABET[byte] ?? ""]);
  // The unit vector of the last position after all layer norms: one value there, another everywhere else.
  let [here, elsewhere] = [1, 0];
  for (let norm = 0; norm < 2 + 2 * num_hidden_layers * routing.depth; norm++) {
    const mean = (here + elsewhere * (context - 1)) / context;
    const variance = ((here - mean) ** 2 + (elsewhere - mean) ** 2 * (context - 1)) / context;
    const scale = 1 / Math.sqrt(variance + 1e-5);
    [here, elsewhere] = [(here - mean) * scale, (elsewhere - mean) * scale];
  }
  /** @type {Map<number, number>} */
  const logits = new Map();
  for (let position = 0; position < context; position++) {
    const id = script[position - FIRST] ?? vocab["<eos>"];
    const at = position === (right ? FIRST : FIRST + 1) ? here : elsewhere;
    logits.set(id, (logits.get(id) ?? 0) + at);
  }
  for (const id of Object.values(vocab)) {
    logits.set(id, logits.get(id) ?? 0);
  }
  const top = [...logits].sort((a, b) => b[1] - a[1]).slice(0, 16);
  return { ids: Array.from({ length: FIRST + 1 }, (_, i) => i + 1), top };
}

const CARD = `---
license: apache-2.0
---
# A scripted model

It knows one answer. <img src=x onerror="document.title='card ran'"> [site](https://example.com) [no](javascript:alert(1))
`;

/**
 * @param {string} name
 * @param {number} outputs
 * @param {number} inputs
 * @returns {[string, number[], null][]}
 */
function linear(name, outputs, inputs) {
  return [[`${name}.weight`, [outputs, inputs], null], [`${name}.bias`, [outputs], null]];
}
