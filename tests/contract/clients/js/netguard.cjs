// Loaded before a program of a test: loopback or nothing, as tests/netguard does for Python.
const fs = require("node:fs");
const net = require("node:net");
const dns = require("node:dns");

const LOOPBACK = new Set(["localhost", "::1"]);
const connect = net.Socket.prototype.connect;

function refuse(host) {
  if (host === undefined || LOOPBACK.has(host) || /^127\./.test(host)) return;
  fs.appendFileSync(process.env.NETGUARD_RECORD, "a connection or a name\n");
  throw new Error("tests reach nothing but loopback");
}

net.Socket.prototype.connect = function guarded(...given) {
  const options = Array.isArray(given[0]) ? given[0][0] : given[0];
  if (typeof options === "object" && options !== null) {
    if (!options.path) refuse(options.host ?? "localhost");
  } else if (typeof options === "number") {
    refuse(typeof given[1] === "string" ? given[1] : "localhost");
  }
  return connect.apply(this, given);
};

for (const name of ["lookup", "resolve", "resolve4", "resolve6"]) {
  const before = dns[name];
  dns[name] = function guarded(host, ...rest) {
    refuse(host);
    return before.call(this, host, ...rest);
  };
}
