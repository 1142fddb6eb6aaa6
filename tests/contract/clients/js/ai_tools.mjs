// npm `ai` with `@ai-sdk/openai-compatible`: tools.
import assert from "node:assert/strict";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { once } from "./ai_made.mjs";
import { calling, check, run } from "./checks.mjs";

const weather = tool({
  description: "The weather of a town.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `9 °C in ${city}`,
});
const BONN = ["weather", { city: "Bonn" }];

check("tools", async () => {
  const answer = await generateText({ ...once, prompt: calling(BONN), tools: { weather } });
  assert.equal(answer.finishReason, "tool-calls");
  assert.deepEqual(answer.toolCalls.map((call) => [call.toolName, call.input]), [BONN]);
  assert.deepEqual(answer.toolResults.map((each) => each.output), ["9 °C in Bonn"]);
});

check("toolsInSteps", async () => {
  const answer = await generateText({
    ...once,
    prompt: calling(BONN),
    tools: { weather },
    stopWhen: stepCountIs(2),
  });
  assert.equal(answer.steps.length, 2);
  assert.equal(answer.steps[1].finishReason, "stop");
});

check("streamedTools", async () => {
  const answer = streamText({
    ...once,
    prompt: calling(BONN, ["weather", { city: "Kiel" }]),
    tools: { weather },
  });
  const calls = [];
  for await (const part of answer.fullStream) {
    if (part.type === "tool-call") calls.push([part.toolName, part.input]);
    assert.notEqual(part.type, "error");
  }
  assert.deepEqual(calls, [BONN, ["weather", { city: "Kiel" }]]);
});

check("toolsThatMustBeCalled", async () => {
  const answer = await generateText({
    ...once,
    prompt: "tell me",
    maxOutputTokens: 400,
    tools: { weather },
    toolChoice: "required",
  });
  assert.equal(typeof answer.toolCalls[0].input.city, "string");
});

await run("ai_tools");
