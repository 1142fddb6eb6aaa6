// npm `ai` and a real model.
import assert from "node:assert/strict";
import { generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";
import { once } from "./ai_made.mjs";
import { check, run } from "./checks.mjs";

const prompt = "Where do I hand in form 12?";
const weather = tool({ inputSchema: z.object({ city: z.enum(["Bonn", "Kiel"]) }) });

check("texts", async () => {
  assert.ok((await generateText({ ...once, prompt, maxOutputTokens: 12 })).text);
  let text = "";
  for await (const piece of streamText({ ...once, prompt, maxOutputTokens: 12 }).textStream) text += piece;
  assert.ok(text);
});

check("tools", async () => {
  const asked = { ...once, prompt, maxOutputTokens: 60, tools: { weather }, toolChoice: "required" };
  assert.ok(["Bonn", "Kiel"].includes((await generateText(asked)).toolCalls[0].input.city));
});

check("objects", async () => {
  const schema = z.object({ subject: z.enum(["form", "weather"]), urgent: z.boolean() });
  const answer = await generateObject({ ...once, prompt, maxOutputTokens: 60, schema });
  assert.equal(typeof answer.object.urgent, "boolean");
});

await run("real_ai");
