// The provider as these programs make it.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { KEY, MODEL, URL_OF } from "./checks.mjs";

export function made(apiKey = KEY) {
  return createOpenAICompatible({
    name: "appliance",
    baseURL: `${URL_OF}/v1`,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
}

export const appliance = made();
export const model = appliance(MODEL);
export const once = { model, maxRetries: 0 };
