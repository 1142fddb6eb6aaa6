// What the JavaScript programs share: one line of JSON for each check, as `checks.py` prints it.
export const URL_OF = process.env.APPLIANCE_URL;
export const KEY = process.env.APPLIANCE_KEY;
export const MODEL = process.env.APPLIANCE_MODEL ?? "default";

const checks = [];

export function check(name, act) {
  checks.push([name, act]);
}

// A question that the fake model answers with these calls: [name, arguments].
export function calling(...calls) {
  const told = calls.map(
    ([name, given]) =>
      `<tool_call>{"name": "${name}", "arguments": ${JSON.stringify(given)}}</tool_call>`,
  );
  return `echo: ${told.join("")}`;
}

export async function run(module) {
  for (const [name, act] of checks) {
    let problem = null;
    try {
      await act();
    } catch (error) {
      problem = `${error?.name}: ${error?.message} ${error?.stack ?? ""}`.slice(0, 2000);
    }
    console.log(JSON.stringify({ check: `${module}.${name}`, problem }));
  }
}
