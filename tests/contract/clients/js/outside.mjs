// As `outside.py`: the control of the guard.
import net from "node:net";
import { check, run } from "./checks.mjs";

check("calls_outside", async () => {
  await new Promise((resolve, reject) => {
    net.connect({ host: "192.0.2.1", port: 9 }).on("connect", resolve).on("error", reject);
  });
});

await run("outside");
