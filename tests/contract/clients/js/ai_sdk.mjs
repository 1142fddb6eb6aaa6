// npm `ai` with `@ai-sdk/openai-compatible`: texts, streams, objects, embeddings, errors.
import assert from "node:assert/strict";
import {
  APICallError,
  embed,
  embedMany,
  generateObject,
  generateText,
  streamObject,
  streamText,
} from "ai";
import { z } from "zod";
import { appliance, made, once } from "./ai_made.mjs";
import { check, MODEL, run } from "./checks.mjs";

const office = z.object({ name: z.string(), open: z.boolean() });

check("generateText", async () => {
  const answer = await generateText({ ...once, system: "Be brief.", prompt: "echo: good morning" });
  assert.equal(answer.text, "good morning");
  assert.equal(answer.finishReason, "stop");
  assert.ok(answer.usage.outputTokens > 0);
});

check("streamText", async () => {
  const answer = streamText({ ...once, prompt: "echo: grüß Gott, 東京!" });
  let text = "";
  for await (const piece of answer.textStream) text += piece;
  assert.equal(text, "grüß Gott, 東京!");
  assert.equal(await answer.finishReason, "stop");
  assert.ok((await answer.usage).outputTokens > 0);
});

check("limits", async () => {
  const answer = await generateText({ ...once, prompt: "echo: abcdefghij", maxOutputTokens: 3 });
  assert.equal(answer.finishReason, "length");
  const stopped = await generateText({ ...once, prompt: "echo: abcdefghij", stopSequences: ["fg"] });
  assert.equal(stopped.text, "abcde");
});

check("generateObject", async () => {
  const answer = await generateObject({
    ...once,
    schema: office,
    prompt: 'echo: {"name":"Amt","open":true}',
  });
  assert.deepEqual(answer.object, { name: "Amt", open: true });
});

check("streamObject", async () => {
  const answer = streamObject({ ...once, schema: office, prompt: 'echo: {"name":"Amt","open":true}' });
  for await (const part of answer.partialObjectStream) assert.equal(typeof part, "object");
  assert.deepEqual(await answer.object, { name: "Amt", open: true });
});

check("embeddings", async () => {
  const embedder = appliance.embeddingModel(MODEL);
  const one = await embed({ model: embedder, value: "form 12", maxRetries: 0 });
  const many = await embedMany({ model: embedder, values: ["form 12", "two"], maxRetries: 0 });
  assert.deepEqual(many.embeddings[0], one.embedding);
  assert.ok(many.usage.tokens > 0);
});

async function refused(act) {
  try {
    await act();
  } catch (error) {
    assert.ok(APICallError.isInstance(error), `${error}`);
    return error;
  }
  throw new Error("no APICallError");
}

check("errors", async () => {
  const unknown = await refused(() =>
    generateText({ model: appliance("gpt-9"), maxRetries: 0, prompt: "x" }),
  );
  assert.equal(unknown.statusCode, 404);
  assert.equal(unknown.data.error.code, "model_not_found");
  assert.equal(unknown.isRetryable, false);
  const nobody = await refused(() =>
    generateText({ model: made("apk_no")(MODEL), maxRetries: 0, prompt: "x" }),
  );
  assert.equal(nobody.statusCode, 401);
  const wrong = await refused(() => generateText({ ...once, temperature: 7, prompt: "x" }));
  assert.equal(wrong.data.error.param, "temperature");
});

await run("ai_sdk");
